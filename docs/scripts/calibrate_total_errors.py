"""Print the coverage of total flux errors on fields with everything wrong.

Run ``python docs/scripts/calibrate_total_errors.py [number of seeds] [first seed]``;
tables belong into docs/explanation/errors.md.
"""

import sys
import warnings

from bayesprf.errors import ConvergenceWarning
from bayesprf.validation.absolute_flux import check_subsets, format_checks, score_field


def main(n_seed: int = 24, first: int = 1) -> None:
    """Fit fields without and with drift, and print both tables."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    for drifting in (False, True):
        fields = [score_field(seed, drifting=drifting) for seed in range(first, first + n_seed)]
        biases = ", ".join(f"{100 * float(check_subsets([one])[0].bias):+.2f}" for one in fields)
        print(f"\n{'With drift' if drifting else 'Without drift'}, {n_seed} fields; median bias of each: {biases} %\n")
        print(format_checks(check_subsets(fields)))


if __name__ == "__main__":
    main(*(int(one) for one in sys.argv[1:3]))
