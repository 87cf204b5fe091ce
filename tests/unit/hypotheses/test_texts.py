"""What a person reads when an answer is printed."""

import numpy as np

from bayesprf.hypotheses.event_depth import EventDepth
from bayesprf.hypotheses.event_host import EventHost
from bayesprf.hypotheses.scores import ComparedModel, Comparison
from bayesprf.hypotheses.second_star import BlendTest


def test_a_blend_test_says_which_way_it_went():
    def test(bayes):
        return str(BlendTest(bayes, 0.2, 12.0, 3.0, 100.0, 1.0, 2.5, 40, 10))

    assert test(-1.3).startswith("one star: ln Bayes factor -1.3 for a second star 2.50 arcsec away")
    assert test(9.0).startswith("two stars: ln Bayes factor +9.0")


def test_the_host_of_an_event_is_named_first():
    n = 6
    probability = np.array([0.01, 0.9, 0.05, 0.02, 0.01, 0.01])
    host = EventHost(tuple("abcdef"), probability, np.log(probability), np.full(n, 2.0), np.ones(n), np.full(n, 8.0))
    lines = str(host).splitlines()
    assert lines[0] == "most probable host: b (0.9)"
    assert lines[1].startswith("  b: probability 0.9,")
    assert lines[1].endswith("depth 0.25")
    assert lines[-1] == "  and 2 less probable"


def test_a_depth_comes_with_its_interval():
    text = str(EventDepth("star", 10.0, 0.1, 1000.0, 1.0, 0.0, 1e-4))
    assert text.startswith("star: depth 0.01, 68 % interval 0.0099 to 0.0101")


def test_a_comparison_is_a_table_in_a_notebook():
    fields = [name for name in ComparedModel.__dataclass_fields__ if name != "name"]
    model = ComparedModel("a<b", **dict.fromkeys(fields, 1.0))
    html = Comparison((model,), ("mind the gap",))._repr_html_()
    assert "<th>a&lt;b</th>" in html
    assert "<p>mind the gap</p>" in html
