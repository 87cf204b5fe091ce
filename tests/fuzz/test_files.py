"""Damaged files are read rightly, or refused by an error of the package that names them."""

import gzip
import io
import itertools
import warnings

import h5py
import numpy as np
import pytest
from astropy.table import Table
from hypothesis import strategies as st

import bayesprf as bp
from bayesprf.errors import BayesprfWarning, FileError
from bayesprf.io.pixels.tpf_writer import write_tpf
from bayesprf.io.save import _seal, load_tree
from bayesprf.pipeline import restore
from bayesprf.results.scores import compare
from bayesprf.results.summary import summarize
from bayesprf.simulation.fields import make_field
from bayesprf.testing import damaged


@pytest.fixture(scope="module")
def field():
    return make_field(
        rng=np.random.default_rng(1), n_source=4, n_time=8, n_stamp=4, mag_range=(11.0, 12.5), stamp_fill=0.02
    )


@pytest.fixture(scope="module")
def catalogs(field):
    """The same catalogue in every format that is read without a further library."""
    sources = field.sources
    names, magnitudes = list(sources.source_id), sources.mag.tolist()
    table = Table({"source_id": names, "ra": sources.ra_deg, "dec": sources.dec_deg, "phot_g_mean_mag": magnitudes})
    table["pmra"] = table["pmdec"] = 1.5
    table["ref_epoch"] = 2016.0
    text = {".csv": "ascii.csv", ".ecsv": "ascii.ecsv", ".tsv": "ascii.tab"}
    found = {}
    for ending, kind in text.items():
        out = io.StringIO()
        table.write(out, format=kind)
        found[ending] = out.getvalue().encode()
    for ending, kind in {".vot": "votable", ".fits": "fits"}.items():
        raw = io.BytesIO()
        table.write(raw, format=kind)
        found[ending] = raw.getvalue()
    return {**found, ".csv.gz": gzip.compress(found[".csv"], mtime=0)}


@pytest.fixture(scope="module")
def pixel_file(field, tmp_path_factory):
    return write_tpf(tmp_path_factory.mktemp("tpf") / "one.fits", field.pixels, stamp=0, target=1)


@pytest.fixture(scope="module")
def results(field, pixel_file, tmp_path_factory):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BayesprfWarning)  # of so few stars
        machine = bp.fit([pixel_file], field.sources, quiet=True, cures=False)
    return machine.save(tmp_path_factory.mktemp("results") / "out.nc")


def read_damaged(read, path, content):
    """Read a file of such a content; what refuses it must name it, or the argument."""
    path.write_bytes(content)
    try:
        return read(path)
    except FileError as error:
        if path.name not in str(error) and "catalog" not in str(error):
            raise RuntimeError(f"which file? {error}") from error
        raise


@pytest.mark.parametrize("n_example", [200, pytest.param(2000, marks=pytest.mark.slow)])
def test_catalogues(fuzz, catalogs, tmp_path, n_example):
    def check(case):
        ending, content = case
        sources = read_damaged(bp.read_catalog, tmp_path / f"catalog{ending}", content)
        assert sources.n_source == len(sources.flux)

    cases = st.sampled_from(list(catalogs)).flatmap(
        lambda ending: st.tuples(st.just(ending), damaged(catalogs[ending]))
    )
    fuzz(check, n_example, case=cases)


@pytest.mark.parametrize("n_example", [150, pytest.param(1500, marks=pytest.mark.slow)])
def test_pixel_files(fuzz, pixel_file, tmp_path, n_example):
    plain = pixel_file.read_bytes()
    packed = gzip.compress(plain, mtime=0)

    def check(case):
        name, content = case
        pixels = read_damaged(bp.read_tpfs, tmp_path / name, content)
        assert pixels.flux.shape == (pixels.n_time, pixels.n_pixel)

    cases = st.one_of(
        damaged(plain).map(lambda content: ("one.fits", content)),
        damaged(packed).map(lambda content: ("one.fits.gz", content)),
        damaged(plain).map(lambda content: ("one.fits.gz", gzip.compress(content, 1, mtime=0))),
    )
    fuzz(check, n_example, case=cases)


# To make a fit again takes hundreds of times as long as to read it: one of forty.
DEEP = st.integers(0, 39).map(lambda one: one == 0)


def use(tree, folder):
    """Do with a tree what users do."""
    summarize(tree)
    compare({"one": tree, "two": tree})
    if folder is not None:
        restore(tree, (folder,))


@pytest.mark.parametrize("n_example", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_result_files_with_damaged_bytes(fuzz, results, tmp_path, n_example):
    content = results.read_bytes()
    body = content[: -len(_seal(b""))]

    def check(damage, sealed, deep):
        tree = read_damaged(load_tree, tmp_path / "out.nc", damage + (_seal(damage) if sealed else b""))
        use(tree, results.parent if deep else None)

    damage = st.one_of(damaged(body), damaged(content))
    fuzz(check, n_example, damage=damage, sealed=st.booleans(), deep=DEEP)


@pytest.mark.parametrize("n_example", [25, pytest.param(500, marks=pytest.mark.slow)])
def test_result_files_that_lack_parts(fuzz, results, tmp_path, n_example):
    """A group, variable or attribute is missing, or an attribute holds something else."""
    whole, number, parts = results.read_bytes(), itertools.count(), []
    with h5py.File(results) as file:
        file.visititems(lambda name, one: parts.extend([(name, None), *((name, key) for key in one.attrs)]))
        parts += [("/", key) for key in file.attrs]
    odd = st.one_of(st.none(), st.integers(-3, 2**40), st.floats(), st.sampled_from(["", "{}", "[1]", "null", "x"]))

    def check(part, value, deep):
        path = tmp_path / f"{next(number)}.nc"  # a damaged file may stay open until it is forgotten
        path.write_bytes(whole[: -len(_seal(b""))])
        with h5py.File(path, "r+") as file:
            name, key = part
            if key is None:
                del file[name]
            elif value is None:
                del file[name].attrs[key]
            else:
                file[name].attrs[key] = value
        use(load_tree(path), results.parent if deep else None)

    fuzz(check, n_example, part=st.sampled_from(parts), value=odd, deep=DEEP)
