"""Single values that no star can have made: found, and left out of the mean image and of nothing else."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import erf

import bayesprf as bp
from bayesprf.scene.garbage import drop_values
from bayesprf.scene.image import reduce_image
from bayesprf.scene.pixels import PixelTable
from bayesprf.simulation.fields import make_field

SIDE, N_TIME = 9, 60
ROW, COLUMN = (grid.ravel() for grid in np.mgrid[0:SIDE, 0:SIDE])
CENTRE = 4 * SIDE + 4


def star(sigma=0.7, x=4.0, y=4.0):
    """Return the light of a Gaussian star of 1e4 electron / s in each pixel."""
    parts = [erf((one + 0.5) / (sigma * 2**0.5)) - erf((one - 0.5) / (sigma * 2**0.5)) for one in (COLUMN - x, ROW - y)]
    return 1e4 * parts[0] * parts[1] / 4


def make_stack(*, seed=0, light=None, change=None, n_time=N_TIME):
    """Return a stack of one star that changes by the factors `change`, shape (n_time,)."""
    light = star() if light is None else light
    factor = np.ones(n_time) if change is None else change
    error = np.sqrt(light + 100.0) / 3.0
    flux = factor[:, None] * light + np.random.default_rng(seed).normal(size=(n_time, light.size)) * error
    return PixelTable(np.arange(float(n_time)), flux, np.tile(error, (n_time, 1)), COLUMN / 900, ROW / 900, COLUMN, ROW)


def plant(pixels, values, name="flux"):
    """Return the stack with values put in, by cadence and pixel."""
    array = getattr(pixels, name).copy()
    for (cadence, pixel), value in values.items():
        array[cadence, pixel] = value
    return replace(pixels, **{name: array})


@pytest.mark.parametrize("seed", range(20))
def test_noise_alone_keeps_its_exact_mean(seed):
    pixels = make_stack(seed=seed)
    image = reduce_image(pixels)
    assert image.left_out.shape == (0, 2)
    assert image.flux.tobytes() == (pixels.flux.sum(axis=0) / N_TIME).tobytes()


CHANGES = {
    "eclipse": np.where(np.arange(N_TIME) // 3 == 5, 0.4, 1.0),
    "flare": np.where(np.arange(N_TIME) == 31, 5.0, 1.0),
    "nova": np.where(np.arange(N_TIME) == 31, 500.0, 1.0),
    "pulsation": 1.0 + 0.5 * np.sin(np.arange(N_TIME)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("sigma", [0.33, 0.5, 0.9])  # 0.33 pixel: 0.76 of the light in one pixel, sharper than Kepler
@pytest.mark.parametrize("place", [(4.0, 4.0), (4.5, 4.2), (0.0, 0.0)], ids=["centre", "between", "corner"])
def test_stars_may_change(change, sigma, place):
    """Only where its light falls on one pixel and its edges lack neighbours can a star be taken for garbage."""
    pixels = make_stack(light=star(sigma, *place), change=change)
    image = reduce_image(pixels)
    np.testing.assert_allclose(image.flux, pixels.flux.mean(axis=0), rtol=1e-12)
    assert len(image.left_out) == 0


@pytest.mark.parametrize("value", [1e6, 1e15, 1e160, 1e300, -1e6, -1e30, 0.0, 1e-36, 2.0])
@pytest.mark.parametrize("pixel", [CENTRE, CENTRE + 1, 0])
def test_one_value_moves_nothing(value, pixel):
    clean = make_stack()
    if abs(value - clean.flux[7, pixel]) < 20 * clean.flux_err[7, pixel]:
        pytest.skip("within the noise of this pixel")
    image, wanted = reduce_image(plant(clean, {(7, pixel): value})), reduce_image(clean)
    assert image.left_out.tolist() == [[7, pixel]]
    others = np.arange(SIDE**2) != pixel
    assert image.flux[others].tobytes() == wanted.flux[others].tobytes()
    assert image.ivar[others].tobytes() == wanted.ivar[others].tobytes()
    kept = np.delete(clean.flux[:, pixel], 7)
    assert image.flux[pixel] == pytest.approx(kept.mean(), rel=1e-12)
    assert image.ivar[pixel] == pytest.approx((N_TIME - 1) / clean.flux_err[0, pixel] ** 2)


@pytest.mark.parametrize(("sigma", "least"), [(0.5, 0.95), (0.7, 0.85)])
def test_values_below_twenty_errors_are_found_where_a_star_would_show_beside(sigma, least):
    """15 errors in the brightest pixel; a dark pixel of a dark sky hides what follows it in noise."""
    light, found = star(sigma), 0
    for seed in range(40):
        pixels = make_stack(seed=seed, light=light)
        value = light[CENTRE] + (-1) ** seed * 15.0 * pixels.flux_err[7, CENTRE]
        found += reduce_image(plant(pixels, {(7, CENTRE): value})).left_out.tolist() == [[7, CENTRE]]
    assert found >= least * 40


@pytest.mark.parametrize("sigma", [0.42, 0.7])  # 0.42 pixel: 0.59 of the light in one pixel; Kepler's sharpest has 0.69
@pytest.mark.parametrize("size", [6.0, 10.0, 19.0])
def test_small_events_of_stars_are_kept(sigma, size):
    """Events of one cadence, in errors of the brightest pixel: one in a hundred may be taken for garbage."""
    light, cut = star(sigma), 0
    event = size * np.sqrt(light[CENTRE] + 100.0) / 3.0 / light[CENTRE]
    for seed in range(50):
        change = np.where(np.arange(N_TIME) == 31, 1.0 + (-1) ** seed * event, 1.0)
        cut += len(reduce_image(make_stack(seed=seed, light=light, change=change)).left_out) > 0
    assert cut <= 2


def test_a_cadence_in_which_the_pointing_is_off_is_kept():
    """A bright star that moves by 0.02 pixel changes by 15 errors and more in several pixels together."""
    for seed in range(20):
        pixels, moved = make_stack(seed=seed), star(x=4.02)
        flux = pixels.flux.copy()
        flux[31] += moved - star()
        assert len(reduce_image(replace(pixels, flux=flux)).left_out) == 0


def test_several_values_and_broken_errors():
    clean = make_stack()
    bad = plant(clean, {(3, CENTRE): 1e9, (9, CENTRE): -1e7, (9, 0): 1e5})
    bad = plant(bad, {(5, 8): 1e20, (6, 9): np.nan, (7, 10): 0.0}, "flux_err")
    image = reduce_image(bad)
    assert image.left_out.tolist() == [[3, CENTRE], [5, 8], [9, 0], [9, CENTRE]]
    wanted = reduce_image(clean)
    assert (np.abs(image.flux - wanted.flux) * np.sqrt(wanted.ivar)).max() < 1.0
    np.testing.assert_allclose(image.ivar, wanted.ivar, rtol=0.04)


def test_errors_far_below_the_usual_are_broken():
    """A bit of a float's exponent makes an error a quarter, a sixteenth, ... of itself."""
    bad = plant(make_stack(), {(3, CENTRE): 1e-20, (4, CENTRE): 1.0, (9, 0): 0.8}, "flux_err")
    assert reduce_image(bad).left_out.tolist() == [[3, CENTRE], [4, CENTRE], [9, 0]]
    half = plant(make_stack(), {(3, CENTRE): 17.0}, "flux_err")
    assert len(reduce_image(half).left_out) == 0


def test_errors_that_follow_an_eclipse_are_none():
    """A star that is gone for five cadences leaves the small errors of the sky."""
    pixels = make_stack(change=np.where(np.arange(N_TIME) // 5 == 4, 0.0, 1.0))
    error = pixels.flux_err.copy()
    error[20:25] = 10.0 / 3.0
    assert len(reduce_image(replace(pixels, flux_err=error)).left_out) == 0


def test_neighbours_that_are_garbage_too_are_impossible_together():
    image = reduce_image(plant(make_stack(), {(3, CENTRE): 1e12, (3, CENTRE + 1): 2e12}))
    assert image.left_out.tolist() == [[3, CENTRE], [3, CENTRE + 1]]


def test_cadences_that_do_not_count_are_not_looked_at():
    pixels = plant(make_stack(), {(7, CENTRE): 1e9})
    used = np.arange(N_TIME) != 7
    image = reduce_image(pixels, "mean", used)
    assert len(image.left_out) == 0
    np.testing.assert_array_equal(image.flux, reduce_image(make_stack(), "mean", used).flux)
    np.testing.assert_array_equal(reduce_image(pixels, "mean", np.arange(N_TIME) < 20).left_out, [[7, CENTRE]])


@pytest.mark.parametrize("n_time", [1, 2, 3])
def test_few_cadences_have_no_median(n_time):
    image = reduce_image(plant(make_stack(n_time=n_time), {(0, CENTRE): 1e6}))
    assert len(image.left_out) == 0


def test_dropping_values():
    pixels = make_stack()
    assert drop_values(pixels, np.empty((0, 2), np.int64)) is pixels
    dropped = drop_values(pixels, np.array([[3, 5], [4, 6]]))
    assert np.argwhere(dropped.ivar == 0).tolist() == [[3, 5], [4, 6]]


def flip(flux, cadence, pixel, bit):
    """Return the stack's flux, as float32, with one bit of one value flipped."""
    single = flux.astype(np.float32)
    single.view(np.uint32)[cadence, pixel] ^= np.uint32(1 << bit)
    return single.astype(np.float64)


def test_120_flipped_bits_do_not_move_the_mean():
    """No flip moves a pixel's mean by more than a third of a cadence's error: 20 sigma / 60 cadences."""
    clean = make_stack(seed=5)
    clean = replace(clean, flux=clean.flux.astype(np.float32).astype(np.float64))
    wanted, rng = reduce_image(clean), np.random.default_rng(1)
    for number in range(120):
        bit = int(rng.integers(23, 32) if number % 2 else rng.integers(0, 23))
        cadence, pixel = int(rng.integers(N_TIME)), int(rng.integers(SIDE**2))
        image = reduce_image(replace(clean, flux=flip(clean.flux, cadence, pixel, bit)))
        assert (np.abs(image.flux - wanted.flux) / clean.flux_err[0]).max() <= 20.0 / N_TIME, (cadence, pixel, bit)


@pytest.mark.slow
@pytest.mark.parametrize("fit_va", [False, True])
def test_flipped_bits_move_no_other_cadence_by_an_error(fit_va):
    """The fluxes of 20 stars at 200 cadences, half of the flips in exponent or sign."""
    made = make_field(rng=np.random.default_rng(3), n_source=20, n_time=200, n_stamp=4, mag_range=(10.0, 16.0))
    clean = replace(made.pixels, flux=made.pixels.flux.astype(np.float32).astype(np.float64))

    def fit(flux):
        machine = bp.Machine.from_pixels(replace(clean, flux=flux), made.sources, quiet=True)
        machine.build_shape_model()
        if fit_va:
            machine.build_time_model()
        machine.fit_model(fit_va=fit_va)
        return (machine.ws_va, machine.werrs_va) if fit_va else (machine.ws, machine.werrs)

    (wanted, errors), rng, moved = fit(clean.flux), np.random.default_rng(103), []
    for number in range(40 if fit_va else 120):
        bit = int(rng.integers(23, 32) if number % 2 else rng.integers(0, 23))
        cadence, pixel = int(rng.integers(200)), int(rng.integers(clean.n_pixel))
        found, _ = fit(flip(clean.flux, cadence, pixel, bit))
        others = np.arange(200) != cadence
        moved.append(np.nanmax(np.abs(found - wanted)[others] / errors[others]))
    assert max(moved) < 1.0
