"""Print how often regions of events hold them, and which hidden stars are found, whole jobs from pixels.

Run ``python docs/scripts/calibrate_positions.py [fields] [events per field] [first seed]``, without events (0) for the
hidden stars alone; the tables are in docs/evidence/calibration.md.
"""

import sys

import numpy as np

from bayesprf.validation.sky_positions import MissingScores, PositionScores, score_missing, score_positions

BINS = ((0.0, 20.0), (20.0, 50.0), (50.0, 1e9))


def describe(name: str, scores: PositionScores) -> str:
    """Return one row of the table of events."""
    inside = 100.0 * scores.inside.mean(axis=1)
    right = 100.0 * np.mean(scores.probability > 0.5)
    return (
        f"| {name} | {scores.listed.size} | {inside[0]:.1f} | {inside[1]:.1f} | {np.median(scores.error):.2f}"
        f" | {np.median(scores.area):.2f} | {right:.1f} |"
    )


def print_events(seeds: range, n_event: int) -> None:
    """Print the table of events."""
    events = PositionScores.gather([score_positions(seed, n_event) for seed in seeds])
    print(
        "| events | number | in the 68 % region, % | in the 95 % region, % | error, arcsec | area, arcsec2 | right, % |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    print(describe("all", events))
    print(describe("star in the catalogue", events.select(events.listed)))
    print(describe("star not in the catalogue", events.select(~events.listed)))
    for low, high in BINS:
        chosen = (events.score >= low) & (events.score < high)
        print(describe(f"signal-to-noise ratio {low:g} to {high:g}", events.select(chosen)), flush=True)


def print_missing(seeds: range) -> None:
    """Print the table of hidden stars."""
    print("\n| fields | hidden, beyond 1 pixel | found | hidden, within | found | flux ratio | made up, of stars |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, n_hidden in (("24 of 200 stars hidden", 24), ("complete catalogue", 0)):
        found = MissingScores.gather([score_missing(seed, n_hidden=n_hidden) for seed in seeds])
        far = found.separation > 1.0
        ratio = np.nanmedian(found.flux_ratio) if found.found.any() else np.nan
        print(
            f"| {name} | {far.sum()} | {found.found[far].sum()} | {(~far).sum()} | {found.found[~far].sum()}"
            f" | {ratio:.3f} | {found.n_false} of {found.n_star} |",
            flush=True,
        )


def main(n_field: int, n_event: int, first: int) -> None:
    """Score fields that were not looked at before."""
    seeds = range(first, first + n_field)
    if n_event:
        print_events(seeds, n_event)
    print_missing(seeds)


if __name__ == "__main__":
    given = [int(one) for one in sys.argv[1:]]
    main(*(given + [20, 100, 100][len(given) :]))
