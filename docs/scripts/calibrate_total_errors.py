"""Print the coverage of total flux errors on fields with everything wrong.

Run ``python docs/scripts/calibrate_total_errors.py [number of seeds]``; the tables belong into docs/errors.md.
"""

import sys
import warnings

from bayesprf.errors import ConvergenceWarning
from bayesprf.field_calibration import check_subsets, format_checks, score_field


def main(n_seed: int) -> None:
    """Fit fields without and with drift, and print both tables."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    for drifting in (False, True):
        fields = [score_field(seed, drifting=drifting) for seed in range(1, n_seed + 1)]
        biases = ", ".join(f"{100 * float(check_subsets([one])[0].bias):+.2f}" for one in fields)
        print(f"\n{'With drift' if drifting else 'Without drift'}, {n_seed} fields; median bias of each: {biases} %\n")
        print(format_checks(check_subsets(fields)))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
