"""One self-contained page that shows everything that a tree holds: the verdict first, its provenance last."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from bayesprf.arrays import NamedDict
from bayesprf.checks import checked, write_whole
from bayesprf.errors import InputError
from bayesprf.flags import FLAG_SENTENCES, QualityFlag
from bayesprf.report.curves import curve_data
from bayesprf.results.summary import SourceSummary, describe_widths, summarize

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Shown: dots per inch of the pictures.
_DPI = 100
# Shown: rows of the table of sources; the tree holds them all.
_MAX_ROWS = 3000
# Shown: rows of the summary in a notebook.
_MAX_SUMMARY = 20
# Shown: variables of draws with more values than this are not listed; a corner plot of more cannot be read.
_MAX_DRAWN, _MAX_CORNER = 200, 8
# Shown: height of the page in a notebook, screen pixel.
_HEIGHT = 800
# What made the tree, the short facts first.
_PROVENANCE = ("created", "versions", "input_files", "options", "recipes")


@dataclass(frozen=True, slots=True)
class Report:
    """A page.

    Parameters
    ----------
    html : str
        The page, complete: it loads nothing from elsewhere.
    """

    html: str

    @checked
    def save(self, path: str | Path) -> Path:
        """Write the page to a file.

        Parameters
        ----------
        path : path-like
            File to write, ``.html``.

        Returns
        -------
        Path
            The file written.

        Raises
        ------
        InputError
            If `path` is no path.
        FileError
            If the file cannot be written.
        """
        target = Path(path)
        write_whole(target, self.html.encode())
        return target

    def __repr__(self) -> str:
        return f"<Report: {len(self.html.encode()) / 1e6:.2f} MB of HTML; save('report.html') writes it>"

    def _repr_html_(self) -> str:
        """Show the page in a notebook, in a frame of its own."""
        return (
            f'<iframe srcdoc="{escape(self.html)}" style="width: 100%; height: {_HEIGHT}px; border: 1px solid #d5dde5">'
            "</iframe>"
        )


def make_report(tree: xr.DataTree) -> Report:
    """Make one page of all that a tree shows.

    Parameters
    ----------
    tree : xarray.DataTree
        Results of a fit, with or without fluxes, or draws of `Machine.posterior` or `Machine.sample`.

    Returns
    -------
    Report
        Shows itself in notebooks; `save` writes the file.

    Raises
    ------
    InputError
        If the tree holds neither.
    """
    return Report(_render("report", _content(tree)))


def make_summary(tree: xr.DataTree) -> str:
    """Return verdict, table and provenance of a tree, without pictures, as HTML for a notebook."""
    content = _content(tree, pictures=False)
    table = content["table"]
    if table is not None:
        content["n_more"], content["table"] = max(0, len(table["rows"]) - _MAX_SUMMARY), table
        table["rows"] = table["rows"][:_MAX_SUMMARY]
    return _render("summary", content)


def head_of(tree: xr.DataTree) -> list[str]:
    """Return title, numbers and verdict of a tree, a line each."""
    content = _content(tree, pictures=False)
    findings = [f"{one['flag']}: {one['sentence']}: {one['cure']}" for one in content["verdict"].get("findings", ())]
    return [content["title"], ", ".join(content["facts"]), content["verdict"]["headline"], *findings]


def _content(tree: xr.DataTree, *, pictures: bool = True) -> NamedDict:
    """Return what a page is made of, with or without its pictures and light curves."""
    if "posterior" in tree.children:
        content = _draws_page(tree, pictures=pictures)
    elif "catalog" in tree.children:
        content = _fit_page(tree, pictures=pictures)
    else:
        raise InputError(
            f"tree: expected results of a fit or draws, got groups {sorted(tree.children)}; make the tree by"
            " to_datatree(), posterior() or sample()"
        )
    return {**content, "provenance": _provenance(tree)}


def _render(name: str, content: NamedDict) -> str:
    from jinja2 import Environment

    text = files("bayesprf.report").joinpath(f"{name}.html.jinja").read_text(encoding="utf-8")
    return Environment(autoescape=True, trim_blocks=True).from_string(text).render(content)


def _fit_page(tree: xr.DataTree, *, pictures: bool) -> NamedDict:
    """Return what the page of a fit is made of."""
    has_flux = "photometry" in tree.children and "flux" in tree["photometry"]
    lines = summarize(tree) if has_flux else ()
    before, after = _fit_pictures(tree, has_flux=has_flux) if pictures else ([], [])
    return {
        "title": f"bayesprf: {tree['catalog'].sizes['source']} sources",
        "facts": _facts(tree),
        "verdict": _verdict(tree, lines, has_flux=has_flux),
        "parts": before,
        "more_parts": after,
        "curves": curve_data(tree, lines) if has_flux and pictures else None,
        "table": _table(tree, lines) if has_flux else None,
    }


def _facts(tree: xr.DataTree) -> list[str]:
    """Return instrument, numbers and span of time."""
    found = [str(tree.attrs["instrument"])] if "instrument" in tree.attrs else []
    found.append(f"{tree['catalog'].sizes['source']} sources")
    if "photometry" in tree.children and "time" in tree["photometry"].coords:
        time = tree["photometry"]["time"].to_numpy()
        found += [f"{time.size} cadences", f"{np.ptp(time):.4g} days from {time.min():.4f}"]
    if "image" in tree.children:
        found.append(f"{tree['image'].sizes['pixel']} pixels")
    return found


def _verdict(tree: xr.DataTree, lines: tuple[SourceSummary, ...], *, has_flux: bool) -> NamedDict:
    """Return what is known against the fit, with cures, and the flags of its fluxes."""
    if not has_flux:
        return {"kind": "unknown", "headline": "No fluxes have been fitted yet: there is no verdict.", "lines": []}
    counts = {flag: sum(bool(line.flags & flag) for line in lines) for flag in QualityFlag}
    flags = [
        {"name": flag.name, "count": _count(n, len(lines)), "sentence": FLAG_SENTENCES[flag]}
        for flag, n in counts.items()
        if n
    ]
    found: NamedDict = {"flags": flags, "lines": describe_widths(tree)}
    if "quality" not in tree.children:
        return {**found, "kind": "unknown", "headline": "These results hold no verdict."}
    findings, tried = _findings(tree, len(lines)), _tried(tree)
    headline = "The fit is sound." if not findings else f"{len(findings)} fault{'s' * (len(findings) > 1)} found."
    return {**found, "kind": "bad" if findings else "", "headline": headline, "findings": findings, "tried": tried}


def _count(n: int, n_source: int) -> str:
    return f"{n} of {n_source} sources"


def _findings(tree: xr.DataTree, n_source: int) -> list[NamedDict]:
    """Return flag, reach, sentence and cure of every fault, the worst first."""
    group = tree["quality"].to_dataset()
    if "finding" not in group:
        return []
    bits = group["quality_flags"].to_numpy()
    columns = (group[name].to_numpy() for name in ("finding", "finding_sentence", "finding_cure"))
    return [
        {
            "flag": str(flag),
            "reach": _count(int(np.count_nonzero(bits & QualityFlag[str(flag)])), n_source),
            "sentence": str(sentence),
            "cure": str(cure),
        }
        for flag, sentence, cure in zip(*columns, strict=True)
    ]


def _tried(tree: xr.DataTree) -> list[str]:
    """Return what was tried because of a fault of the first fit, and what came of it."""
    group = tree["quality"].to_dataset()
    if "cure" not in group:
        return []
    rows = zip(*(group[name].to_numpy() for name in ("cure_reason", "cure_result")), strict=True)
    return [f"{reason}: {result}" for reason, result in rows]


def _fit_pictures(tree: xr.DataTree, *, has_flux: bool) -> tuple[list[NamedDict], list[NamedDict]]:
    """Return the parts of the page that are pictures: those before the light curves, and those after."""
    from bayesprf.report import tree_pictures as draw

    before, after = [], []
    if draw.has_image(tree):
        scene = _picture(draw.draw_tree_scene(tree), "The image that the PRF was fitted to, with the sources.")
        left = _picture(draw.draw_tree_scene(tree, residual=True), "What the model leaves of it, over the noise.")
        before.append({"title": "Scene", "pictures": [scene, left]})
    if draw.has_prf(tree):
        prf = _picture(draw.draw_tree_prf(tree), "The PRF; contours are shares of its peak.")
        before.append({"title": "PRF", "pictures": [prf], "text": _prf_text(tree)})
    if "time_model" in tree.children:
        columns = _picture(draw.draw_tree_time_columns(tree), "What the PRF follows in time.")
        before.append({"title": "Time model", "pictures": [columns], "text": _time_model_text(tree)})
    if has_flux:
        curves = _picture(draw.draw_tree_lightcurves(tree), "The brightest and the most variable stars.")
        noise = _picture(draw.draw_tree_noise(tree), "Noise of every light curve against magnitude.")
        errors = _picture(draw.draw_tree_errors(tree), "Errors of the brightest stars, split into their parts.")
        after = [
            {"title": "Noise and errors", "pictures": [noise, errors]},
            {"title": "Light curves at a glance", "pictures": [curves]},
        ]
    return before, after


def _prf_text(tree: xr.DataTree) -> str:
    """Return in a sentence what the PRF was trained on and how well it fits."""
    shape = tree["shape"].to_dataset()
    n_pixel, scatter, (east, north) = (
        int(shape["n_pixel_shape"]), float(shape["intrinsic_scatter"]), shape["offset"].to_numpy()
    )  # fmt: skip
    return (
        f"Trained on {n_pixel} pixels of stars, which scatter about it by {scatter:.3g} dex beyond their errors. The"
        f" stars lie {east:+.3f} arcsec east and {north:+.3f} arcsec north of the catalogue."
    )


def _time_model_text(tree: xr.DataTree) -> str:
    """Return in a sentence how well the time model fits."""
    group = tree["time_model"].to_dataset()
    scatter, n_clipped = 100.0 * float(group["time_scatter"]), int(group["n_clipped_time"])
    return (
        f"Pixels, averaged in bins of time, scatter about it by {scatter:.2g} % beyond their errors; {n_clipped} of"
        " them were left out as outliers."
    )


def _picture(figure: "Figure", caption: str) -> NamedDict:
    from bayesprf.plots.canvas import as_base64

    return {"png": as_base64(figure, dpi=_DPI), "caption": caption}


def _table(tree: xr.DataTree, lines: tuple[SourceSummary, ...]) -> NamedDict:
    """Return the sources as rows; each cell has a text, and a value to sort by."""
    photometry = tree["photometry"].to_dataset()
    order = {str(name): i for i, name in enumerate(photometry["source"].to_numpy())}
    total = photometry["flux_err_total"].to_numpy() if "flux_err_total" in photometry else None
    rows = []
    for line in lines[:_MAX_ROWS]:
        error = np.nan if total is None else float(np.nanmedian(_finite(total[:, order[line.source]]))) / abs(line.flux)
        cells = [
            (line.mag, ".2f"), (line.flux, ".1f"), (100.0 * error, ".2g"), (1e6 * line.error, ".0f"),
            (1e6 * line.scatter, ".0f"), (line.variability, ".2f"),
        ]  # fmt: skip
        rows.append([_text(line.source), *(_number(*one) for one in cells), _text(line.flag_names)])
    names = ("source", "mag", "flux (e⁻/s)", "total error (%)", "error (ppm)", "scatter (ppm)", "std / error", "flags")
    columns = [{"name": name, "words": name in ("source", "flags")} for name in names]
    more = f" The {_MAX_ROWS} brightest of {len(lines)}." if len(lines) > _MAX_ROWS else ""
    note = (
        "Click a head to sort, a name to see its light curve. Error and scatter are those of one cadence; the total"
        f" error also holds what all cadences share; std / error is 1 for a constant star.{more}"
    )
    return {"title": "Sources", "note": note, "columns": columns, "rows": rows}


def _finite(values: np.ndarray) -> np.ndarray:
    kept = values[np.isfinite(values)]
    return kept if kept.size else np.array([np.nan])


def _text(text: str) -> NamedDict:
    return {"text": text, "value": text}


def _number(value: float, form: str) -> NamedDict:
    return (
        {"text": format(value, form), "value": repr(float(value))} if np.isfinite(value) else {"text": "–", "value": ""}
    )


def _draws_page(tree: xr.DataTree, *, pictures: bool) -> NamedDict:
    """Return what the page of draws is made of."""
    convergence = str(tree.attrs.get("convergence", "The draws are exact and independent."))
    along = tree.attrs.get("overlapping_sources", "")
    names = [along] if isinstance(along, str) else list(along)
    lines = [f"Sampled along, because their light overlaps: {', '.join(names)}."] if any(names) else []
    sizes = tree["posterior"].sizes
    facts = [f"{sizes['chain']} chains of {sizes['draw']} draws"]
    facts += [f"{sizes['source']} sources"] if "source" in sizes else []
    return {
        "title": "bayesprf: posterior draws",
        "facts": facts,
        "verdict": {"kind": "unknown", "headline": convergence, "lines": lines},
        "parts": _draws_pictures(tree) if pictures else [],
        "curves": None,
        "table": _draws_table(tree),
    }


def _draws_pictures(tree: xr.DataTree) -> list[NamedDict]:
    from bayesprf.plots.posterior import count_numbers, plot_corner, plot_forest

    drawn = [_picture(plot_forest(tree), "Credible intervals; fluxes relative to their mean.")]
    if 1 < count_numbers(tree) <= _MAX_CORNER:
        drawn.append(_picture(plot_corner(tree), "Joint and marginal densities."))
    return [{"title": "Posterior", "pictures": drawn, "text": _which_cadence(tree)}]


def _which_cadence(tree: xr.DataTree) -> str:
    draws = tree["posterior"].to_dataset()
    return f"The first of {draws.sizes['time']} cadences." if "time" in draws.dims else ""


def _draws_table(tree: xr.DataTree) -> NamedDict:
    """Return mean and standard deviation of every number that was drawn, at the first cadence."""
    draws = tree["posterior"].to_dataset()
    draws = draws.isel(time=0, drop=True) if "time" in draws.dims else draws
    rows = []
    for name, drawn in draws.data_vars.items():
        mean, std = (
            np.atleast_1d(one.to_numpy()) for one in (drawn.mean(("chain", "draw")), drawn.std(("chain", "draw")))
        )
        if mean.ndim > 1 or mean.size > _MAX_DRAWN:
            continue
        labels: Iterable[object] = [""] if drawn.ndim == 2 else drawn[drawn.dims[-1]].to_numpy()
        for label, value, error in zip(labels, mean, std, strict=True):
            rows.append(
                [_text(f"{name}[{label}]" if str(label) else str(name)), _number(value, ".6g"), _number(error, ".3g")]
            )
    columns = [{"name": name, "words": name == "variable"} for name in ("variable", "mean", "standard deviation")]
    return {"title": "Numbers", "note": "Click a head to sort.", "columns": columns, "rows": rows}


def _provenance(tree: xr.DataTree) -> list[NamedDict]:
    """Return what made the tree; long values are folded away."""
    names = [str(name) for name in tree.attrs if name not in ("title", "convergence")]
    order = {name: place for place, name in enumerate(_PROVENANCE)}
    return [_attribute(name, tree.attrs[name]) for name in sorted(names, key=lambda name: order.get(name, -1))]


def _attribute(name: str, value: object) -> NamedDict:
    text = value if isinstance(value, str) else str(np.asarray(value).tolist())
    try:
        parsed = json.loads(text)
    except ValueError:
        parsed = None
    if isinstance(parsed, dict | list):
        return {"name": name.replace("_", " "), "text": json.dumps(parsed, indent=1, ensure_ascii=False), "long": True}
    return {"name": name.replace("_", " "), "text": text, "long": len(text) > 200}
