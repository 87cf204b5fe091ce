"""Make perturbation_reference.json with PSFMachine 1.1.4 (Python 3.10, numpy 1.26).

Run in an environment that has PSFMachine: ``python make_perturbation_reference.py``. Inputs are formulas, so the
test makes the same ones; only results are stored.
"""

import json
from pathlib import Path

import numpy as np

N_TIME = 60


def inputs():
    """Return time, dx, dy, flux and flux_err as the test makes them."""
    time = np.arange(N_TIME) / 20.0
    x, y = np.meshgrid(np.linspace(-4.9, 4.9, 12), np.linspace(-4.8, 4.7, 11))
    dx, dy = x.ravel(), y.ravel()
    phase = np.outer(time - 1.4, np.sin(dx) + 0.3 * dy)
    flux = 1.0 + 0.05 * phase + 0.01 * np.cos(7.0 * np.outer(time, dx) + dy)
    flux_err = 0.01 * (1.0 + 0.2 * np.sin(np.outer(1.0 + time, 1.0 + dy)) ** 2)
    return time, dx, dy, flux, flux_err


def describe(matrix, model):
    """Return shapes and numbers of a fitted matrix."""
    binned = matrix.matrix.toarray()
    return {
        "vectors_shape": list(matrix.vectors.shape),
        "vectors_sum": matrix.vectors.sum(axis=0).tolist(),
        "vectors_square": (matrix.vectors**2).sum(axis=0).tolist(),
        "matrix_shape": list(binned.shape),
        "matrix_sum": float(binned.sum()),
        "matrix_square": float((binned**2).sum()),
        "shape": list(matrix.shape),
        "nbins": int(matrix.nbins),
        "n_weights": int(matrix.weights.size),
        "model_shape": list(model.shape),
        "model_first": np.ravel(model)[:40].tolist(),
        "model_sum": float(model.sum()),
        "model_square": float((model**2).sum()),
    }


def main():
    """Write the file beside this script."""
    from psfmachine.perturbation import PerturbationMatrix, PerturbationMatrix3D

    time, dx, dy, flux, flux_err = inputs()
    results = {}
    for method in ("bin", "downsample"):
        flat = PerturbationMatrix(time, poly_order=2, segments=False, resolution=7, bin_method=method)
        flat.fit(flux[:, 5], flux_err[:, 5])
        results[f"2d {method}"] = describe(flat, flat.model())
        others = PerturbationMatrix(time, other_vectors=[np.sin(time), np.cos(3 * time)], segments=True, resolution=5,
                                    bin_method=method)  # fmt: skip
        others.fit(flux[:, 5], flux_err[:, 5])
        results[f"2d others {method}"] = describe(others, others.model())
        for spacing in ("linear", "sqrt") if method == "bin" else ("linear",):
            cube = PerturbationMatrix3D(time, dx, dy, poly_order=1, nknots=4, radius=5, segments=False, resolution=10,
                                        bin_method=method, degree=2, knot_spacing_type=spacing)  # fmt: skip
            mask = np.hypot(dx, dy) < 4.5
            cube.fit(flux, flux_err, pixel_mask=mask)
            one = describe(cube, cube.model())
            basis = cube.cartesian_matrix.tocsr()
            basis.sort_indices()
            one["cartesian"] = {"shape": list(basis.shape), "data": basis.data.tolist(),
                                "indices": basis.indices.tolist(), "indptr": basis.indptr.tolist()}  # fmt: skip
            results[f"3d {method} {spacing}"] = one
    gap = np.hstack([time, time + 8.0])
    segmented = PerturbationMatrix(gap, poly_order=1, segments=True, resolution=10)
    segmented.fit(np.hstack([flux[:, 3], flux[:, 4]]), np.hstack([flux_err[:, 3], flux_err[:, 4]]))
    results["segments"] = describe(segmented, segmented.model()) | {"breaks": segmented.breaks.tolist()}
    path = Path(__file__).with_name("perturbation_reference.json")
    path.write_text(json.dumps({"made_with": "psfmachine 1.1.4", "results": results}) + "\n")


if __name__ == "__main__":
    main()
