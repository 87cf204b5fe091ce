"""Measure how often the quality flags find a simulated fault, and how often they mark a sound field.

    python docs/scripts/measure_flags.py [share of 500 + 500 fields] [seed]

Writes docs/evidence/flags.md. Every field has a random stream of its own, and its line goes to ``flags-SEED.jsonl`` in
the working directory as soon as it is judged, with what was found: the same command goes on where it was stopped, and a
share of 0 writes the page of what is there.
"""

import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bayesprf.arrays import NamedDict
from bayesprf.errors import BayesprfWarning
from bayesprf.flags import QualityFlag
from bayesprf.validation.faults import KINDS, Judged, find_hits, judge_kind

PAGE = Path(__file__).parents[2] / "docs" / "evidence" / "flags.md"
N_SOUND, N_FAULT = 100, 50

HEAD = """# Do the quality flags find faults, and only faults?

Made by `python docs/scripts/measure_flags.py 0.3 {seed}`, piece by piece: small simulated fields (28 stars in 24
cutouts or an image of 50 x 50 pixels, 60 cadences), each with a PRF drawn at random: 1.1 to 2.2 pixel wide, from
nearly Gaussian to wide wings, round to asymmetric. A fault counts if it matters: if it moves the mean flux of a star
by more than three total errors and 1 %, or makes a light curve scatter by more than 1.3 of its error (a wrong PRF: if
besides the fluxes of the field are off by two total errors root mean square; a close pair: if a flux is wrong by 30 %);
fields in which it does not are drawn again: a fault that does no harm to fluxes is none. (The wrong PRFs that counted
are those that differ between the two halves of a field; asymmetric ones taken as round did no harm. Where a plane
follows them and the total errors hold the rest, few count any more: in four such fields, with widths of 1.1 to 1.3 and
1.6 to 2.2 pixels, fluxes are off by 3 to 8 % and by 1.1 to 1.8 total errors, root mean square. Since the table was
made, such fields are named as well: `PRF_VARIES` where the median total error of isolated stars exceeds 2 %.)
A sound field is one in which no flux is moved by that much, and in which no light curve scatters by more than 1.1 of
its error (`error_ratio`, from which on a flag is right) on average over the noise: the same fit is applied to the
pixels without their noise. Fields between the two, whose motion adds 10 to 30 % to a light curve's scatter, are neither
and are drawn again. The thresholds (`QualityOptions`) are in standard deviations and in units of the total errors.

Developed on the seeds 50 to 53: there, `SKY_LEFT` of sound fields came from an effect that was measured apart from
the level of the sky, in rings where faint pixels leave it open (up to thousands of total errors where the truth was
below three); it follows from the level now, and agrees with the truth within a third. `MOTION_LEFT` of sound fields
came from the definition alone: the light curves did scatter by 1.1 to 1.3 of their errors. The seed of the table was
looked at once, and nothing was changed after it. The PRF is the default, `method="auto"`.

Recall is the share of faults that raise a flag of the right name; false alarms are sound fields that raise any.
"""


def main(scale: float, seed: int) -> None:
    """Fit and judge all fields that the log lacks, print the table as it grows, and write the page."""
    log = Path(f"flags-{seed}.jsonl")
    records = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    known = {(one["kind"], one["field"]): one for one in records}
    faults, sound = [], []
    for number, (name, kind) in enumerate(KINDS.items()):
        wanted = round(scale * (N_FAULT if kind.flags else N_SOUND))
        for place in range(wanted):
            if (name, place) not in known:
                known[name, place] = record = _judge(name, place, np.random.default_rng([seed, number, place]))
                with log.open("a") as handle:
                    handle.write(json.dumps(record) + "\n")
        rows = [one for one in known.values() if one["kind"] == name and one["judged"]]
        (faults if kind.flags else sound).append((name, rows))
        sys.stdout.write(_line(name, rows) + "\n")
        sys.stdout.flush()
    tables = [*_table("fault", faults), "", *_table("field", sound)]
    PAGE.write_text("\n".join([HEAD.format(seed=seed), *tables]) + "\n")


def _judge(name: str, place: int, rng: np.random.Generator) -> NamedDict:
    """Return what is found of one field; not judged if twenty draws of its fault had no effect."""
    record: NamedDict = {"kind": name, "field": place, "judged": False}
    for one in judge_kind(name, 1, rng):
        flags = int(np.bitwise_or.reduce(one.verdict.flags))
        said = [str(finding) for finding in one.verdict.findings]
        record |= {"judged": True, "hit": bool(find_hits([one])[0]), "flags": flags, "said": said, **_size(one)}
    return record


def _size(one: Judged) -> dict[str, float]:
    """Return the largest effects of a fault: on a flux in total errors and as a share, on the scatter in errors."""
    measured = {"away": one.away, "share": one.share, "scatter": one.scatter, "expected": one.expected_scatter}
    return {name: round(float(np.nanmax(np.abs(values), initial=0.0)), 4) for name, values in measured.items()}


def _table(title: str, rows: Sequence[tuple[str, Sequence[NamedDict]]]) -> list[str]:
    lines = [f"| {title} | fields | flagged | share | flags that were raised |", "| --- | --- | --- | --- | --- |"]
    lines += [_line(name, records) for name, records in rows]
    everything = [one for _, records in rows for one in records]
    return [*lines, _line("all", everything)]


def _line(name: str, records: Sequence[NamedDict]) -> str:
    hits, count = sum(one["hit"] for one in records), len(records)
    numbers = {str(flag.name): sum(bool(one["flags"] & flag) for one in records) for flag in QualityFlag}
    listed = ", ".join(f"{flag} {number}" for flag, number in numbers.items() if number)
    return f"| {name} | {count} | {hits} | {100 * hits / max(count, 1):.1f} % | {listed} |"


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BayesprfWarning)
        main(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0, int(sys.argv[2]) if len(sys.argv) > 2 else 90)
