"""The command line: arguments in, Machine calls, files out."""

import itertools
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from tqdm import tqdm

from bayesprf.arrays import NamedDict
from bayesprf.checks import check_choice, make_directory
from bayesprf.errors import BayesprfError, BayesprfWarning, FileError, InputError

if TYPE_CHECKING:
    import xarray as xr

    from bayesprf.batch import FieldReport
    from bayesprf.pipeline import FitOptions

# Shown: rows of the summary table on the screen; the tree holds every source.
_MAX_ROWS = 40
# Shown: how often the clock of the progress bar moves on.
_TICK_SECONDS = 1.0
_log = logging.getLogger("bayesprf")
_HEADER = ("source", "mag", "flux (e-/s)", "scatter (ppm)", "error (ppm)", "std/error", "flags")

app = typer.Typer(
    help="Light curves of every star in crowded pixels, with uncertainties that can be believed.",
    no_args_is_help=True,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

SetOptions = Annotated[
    list[str] | None, typer.Option("--set", help="Any option of the fit, as name=value; may be repeated.")
]
Config = Annotated[Path | None, typer.Option(help="Options of the fit, a YAML file of lines name: value.")]
Sky = Annotated[str | None, typer.Option(help="Sky left in the pixels, to fit along: stamp (one per file) or image.")]
Motion = Annotated[str | None, typer.Option(help="Let the time model follow the pointing: centroid or poscorr.")]
Refine = Annotated[bool | None, typer.Option(help="Fit the position of every star too, or of none.")]
Quality = Annotated[str | None, typer.Option(help="Cadences left out: default, none, hard, hardest, or QUALITY bits.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar and no table.")]
PlotDirectory = Annotated[Path | None, typer.Option("--plots", help="Directory for pictures.")]


@app.command()
def fit(
    files: Annotated[list[str], typer.Argument(help="Target pixel files, patterns or directories.")],
    catalog: Annotated[
        Path,
        typer.Option(help="Star catalogue: CSV, VizieR text, ECSV, FITS, VOTable, Parquet; or targets, detect, gaia."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="File for all results, netCDF.")],
    va: Annotated[bool, typer.Option("--va", help="Also fit how the PRF changes with time.")] = False,  # noqa: FBT002
    plots: PlotDirectory = None,
    lightcurves: Annotated[Path | None, typer.Option(help="Directory for light curves, FITS.")] = None,
    background: Sky = None,
    background_order: Annotated[int | None, typer.Option(help="0 a constant, 1 a plane, up to 6; else found.")] = None,
    refine: Refine = None,
    positions: Motion = None,
    robust: Annotated[bool, typer.Option("--robust", help="Down-weight cosmic rays.")] = False,  # noqa: FBT002
    loo: Annotated[bool, typer.Option(help="Exact leave-one-out scores, for `compare`.")] = True,  # noqa: FBT002
    learn_widths: Annotated[bool, typer.Option("--learn-widths", help="Learn prior and noise, then fit.")] = False,  # noqa: FBT002
    id_column: Annotated[str | None, typer.Option("--id", help="Column of the catalogue that names the stars.")] = None,
    ra_column: Annotated[str | None, typer.Option("--ra", help="Column of right ascension.")] = None,
    dec_column: Annotated[str | None, typer.Option("--dec", help="Column of declination.")] = None,
    flux_column: Annotated[str | None, typer.Option("--flux", help="Column of flux, on any linear scale.")] = None,
    mag_column: Annotated[str | None, typer.Option("--mag", help="Column of magnitude, in place of a flux.")] = None,
    ref_epoch: Annotated[float | None, typer.Option(help="Julian year of the catalogue's positions.")] = None,
    table: Annotated[str | None, typer.Option(help="Name of the table, in a file that holds several.")] = None,
    detect_missing: Annotated[bool, typer.Option("--detect-missing", help="Add stars the image shows.")] = False,  # noqa: FBT002
    cures: Annotated[bool, typer.Option(help="Try to mend a fit with faults, and keep what is better.")] = True,  # noqa: FBT002
    quality: Quality = None,
    options_set: SetOptions = None,
    config: Config = None,
    quiet: Quiet = False,  # noqa: FBT002
) -> None:
    """Fit the fluxes of all stars of a catalogue in target pixel files."""
    from bayesprf.pipeline import FitOptions
    from bayesprf.settings import Background

    reading = {
        "id_column": id_column, "ra_column": ra_column, "dec_column": dec_column, "flux_column": flux_column,
        "mag_column": mag_column, "ref_epoch": ref_epoch, "table": table, "detect_missing": detect_missing or None,
    }  # fmt: skip
    options = FitOptions(
        catalog={name: value for name, value in reading.items() if value is not None},
        fit_va=va or positions is not None,
        machine={"background": None if background is None else Background(background, background_order)},
        time_model={} if positions is None else {"positions": positions},
        refine=refine,
        robust=robust,
        loo=loo,
        learn_widths=learn_widths,
        cures=cures,
    )
    chosen = _changed(options, config, options_set, quality)
    run_fit(files, catalog, chosen, Output(output, plots, lightcurves), quiet=quiet)


@app.command()
def batch(
    fields: Annotated[Path, typer.Argument(metavar="FIELDS.csv", help="Columns name, files (split by ;), catalog.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory for results and summaries.")],
    cores: Annotated[int, typer.Option(help="Processes on this machine.")] = 1,
    dask: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Scheduler of a Dask cluster.")] = None,
    plots: PlotDirectory = None,
    lightcurves: Annotated[Path | None, typer.Option(help="Directory for light curves, FITS.")] = None,
    log: Annotated[Path | None, typer.Option(help="File for the log; batch.log in the output by default.")] = None,
    options_set: SetOptions = None,
    config: Config = None,
    quiet: Quiet = False,  # noqa: FBT002
) -> None:
    """Fit many fields; called again after an interruption, it goes on with those that are not finished."""
    from bayesprf.batch import QUALITY_NAME, connect, fit_batch, read_fields
    from bayesprf.pipeline import FitOptions

    options = _changed(FitOptions(loo=True), config, options_set)
    listed = read_fields(fields)
    for directory in (output, lightcurves, plots):
        if directory is not None:
            make_directory(directory)
    _log_to(log or output / "batch.log")
    with connect(dask) as client, tqdm(total=len(listed), unit="field", disable=True if quiet else None) as bar:

        def tell(report: "FieldReport") -> None:
            bar.update()
            _log.info("%s: %s %s", report.name, report.status, report.message)
            if report.status == "failed":
                tqdm.write(f"bayesprf: {report.name} failed: {report.message}", file=sys.stderr)
            else:
                _write_products(report, plots, lightcurves)

        reports = fit_batch(listed, output, options=options, cores=cores, client=client, on_report=tell)
    _announce([output / QUALITY_NAME], quiet=quiet)
    if any(report.status == "failed" for report in reports):
        raise typer.Exit(1)


def _write_products(report: "FieldReport", plots: Path | None, lightcurves: Path | None) -> None:
    """Write light curves and pictures of a finished field, each in a directory of its own."""
    if plots is None and lightcurves is None:
        return
    from bayesprf.io.save import load_tree

    tree = load_tree(report.output)
    if lightcurves is not None:
        from bayesprf.io.lightcurves import save_lightcurves

        save_lightcurves(lightcurves / report.name, tree)
    if plots is not None:
        from bayesprf.plots.canvas import save_figures
        from bayesprf.report.tree_pictures import draw_report

        save_figures(draw_report(tree), plots / report.name)


def _changed(
    options: "FitOptions", config: Path | None, pairs: list[str] | None, quality: str | None = None
) -> "FitOptions":
    """Return the options with those of a file, of `--set` and of `--quality`; the later ones win."""
    from bayesprf.cli.overrides import parse_pairs, read_config

    given = {} if config is None else read_config(config)
    given |= parse_pairs(pairs or ())
    if quality is not None:
        given["quality_bitmask"] = int(quality) if quality.isdigit() else quality
    return options.updated(**given)


@app.command()
def demo(
    directory: Annotated[Path, typer.Argument(help="Where to put everything.")] = Path("bayesprf-demo"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the simulation.")] = 0,
    quiet: Quiet = False,  # noqa: FBT002
) -> None:
    """Simulate a small field, write it as real files, and fit them."""
    import numpy as np

    from bayesprf.io.simulated import describe_truth, write_field
    from bayesprf.pipeline import FitOptions
    from bayesprf.simulation.fields import make_case

    make_directory(directory)
    field = make_case("demo", np.random.default_rng(seed))
    files, catalog = write_field(directory, field)
    _say(f"wrote {len(files)} target pixel files and {catalog}", quiet=quiet)
    output = Output(directory / "field.nc", directory / "plots", directory / "lightcurves")
    tree = run_fit([str(path) for path in files], catalog, FitOptions(loo=True), output, quiet=quiet)
    _say(describe_truth(tree, field), quiet=quiet)


@app.command()
def gaia(
    files: Annotated[list[str], typer.Argument(help="Target pixel files, patterns or directories.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File for the catalogue: ECSV, CSV, FITS or VOTable.")],
    magnitude_limit: Annotated[float, typer.Option(help="Faintest G magnitude.")] = 19.0,
    margin: Annotated[
        float | None, typer.Option(help="Distance from the pixels, arcsec; 10 pixels if left out.")
    ] = None,
) -> None:
    """Ask Gaia's archive for the stars on target pixel files; the answer is kept, and used offline afterwards."""
    from bayesprf.io.catalogs.gaia import fetch_gaia, write_rows
    from bayesprf.io.pixels.tpf import read_tpfs

    rows = fetch_gaia(read_tpfs(files), magnitude_limit=magnitude_limit, margin=margin)
    _announce([write_rows(rows, output)], quiet=False)


@app.command()
def report(
    tree_file: Annotated[
        Path, typer.Argument(metavar="OUT.nc", help="Results of `bayesprf fit` or `bayesprf sample`.")
    ],
    plots: PlotDirectory = None,
    html: Annotated[Path | None, typer.Option(help="File for one page that shows everything, .html.")] = None,
) -> None:
    """Print the summary of saved results, and draw their pictures."""
    from bayesprf.io.save import load_tree
    from bayesprf.results.summary import describe_draws

    tree = load_tree(tree_file)
    drawn = "posterior" in tree.children
    typer.echo(describe_draws(tree) if drawn else format_summary(tree))
    if plots is not None:
        from bayesprf.plots.canvas import save_figures
        from bayesprf.report.tree_pictures import draw_report

        _announce(save_figures(draw_report(tree), plots), quiet=False)
    if html is not None:
        from bayesprf.report.page import make_report

        make_directory(html.parent)
        _announce([make_report(tree).save(html)], quiet=False)


@app.command()
def sample(
    tree_file: Annotated[Path, typer.Argument(metavar="OUT.nc", help="Results of `bayesprf fit`.")],
    source: Annotated[list[str], typer.Option(help="Name of a source; may be repeated.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File for the draws; OUT-posterior.nc by default.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="linear, robust, joint or collapsed; joint by default, collapsed to --learn.")
    ] = None,
    cadence: Annotated[int | None, typer.Option(help="One cadence; all by default, the mean image for joint.")] = None,
    files: Annotated[
        list[Path] | None, typer.Option(help="Where the pixel files are; beside OUT.nc by default.")
    ] = None,
    learn: Annotated[
        list[str] | None, typer.Option(help="width, zero_point, noise_scale or jitter; may be repeated.")
    ] = None,
    draws: Annotated[int, typer.Option(help="Draws per chain.")] = 1000,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same draws.")] = None,
) -> None:
    """Sample the posterior of sources of saved results, with all that overlap with them."""
    from bayesprf.io.files import check_not_input
    from bayesprf.io.save import load_tree, save_tree
    from bayesprf.pipeline import check_question, restore
    from bayesprf.results.summary import describe_draws

    results = load_tree(tree_file)
    target = output or tree_file.with_name(f"{tree_file.stem}-posterior.nc")
    for one in learn or ():
        check_choice(one, ("width", "zero_point", "noise_scale", "jitter"), "learn")
    check_not_input(target, [tree_file, *(files or ())])
    kind = kind or ("collapsed" if learn else "joint")
    check_question(results, source, kind, cadence)
    settings: NamedDict = {"kind": kind, "cadences": cadence, "draws": draws, "random_seed": seed}
    settings |= dict.fromkeys(learn or (), "learn")
    tree = restore(results, tuple(files or ()) or (tree_file.resolve().parent,)).sample(source, **settings)
    typer.echo(describe_draws(tree))
    _announce([save_tree(tree, target)], quiet=False)


@app.command()
def compare(
    trees: Annotated[list[Path], typer.Argument(metavar="A.nc B.nc", help="Results of fits of the same pixels.")],
) -> None:
    """Compare fits of the same pixels by evidence and by exact leave-one-out, with standard errors."""
    from bayesprf.io.save import load_tree
    from bayesprf.results.scores import compare as compare_models

    typer.echo(str(compare_models({str(path): load_tree(path) for path in trees})))


@app.command()
def calibrate(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Directory for calibration.md and its pictures.")
    ] = None,
    trials: Annotated[int, typer.Option(help="Trials per blend.")] = 10_000,
    verdicts: Annotated[int, typer.Option(help="Scenes per kind of verdict.")] = 2000,
    samplers: Annotated[int, typer.Option(help="Trials of grid and NUTS; needs nutpie.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the simulations.")] = 0,
) -> None:
    """Check on simulations that intervals cover the truth, and that probabilities come true."""
    import numpy as np

    from bayesprf.validation.suite import calibrate as run_suite
    from bayesprf.validation.tables import calibration_page, format_report

    counts = {"n_trial": trials, "n_realisation": 2 * trials, "n_verdict": verdicts, "n_sampler": samplers}
    report = run_suite(np.random.default_rng(seed), **counts)
    text = format_report(report)
    typer.echo(text)
    if output is not None:
        from bayesprf.plots.canvas import save_figures
        from bayesprf.validation.plots import draw_calibration

        written = save_figures(draw_calibration(report), output / "_static" / "calibration")
        page = output / "calibration.md"
        page.write_text(calibration_page(text, trials=trials, verdicts=verdicts, samplers=samplers, seed=seed))
        _announce([*written, page], quiet=False)


@dataclass(frozen=True)
class Output:
    """What a fit leaves: the file of the tree, and directories for pictures and light curves, if any."""

    tree: Path
    plots: Path | None = None
    lightcurves: Path | None = None


def run_fit(files: list[str], catalog: Path, options: "FitOptions", output: Output, *, quiet: bool) -> "xr.DataTree":
    """Read, fit, write and say what came of it; return the tree."""
    from bayesprf.io.files import check_not_input
    from bayesprf.io.pixels.listing import named_files
    from bayesprf.io.save import save_tree
    from bayesprf.pipeline import fit_files

    if output.tree.is_dir():
        raise FileError(f"output: expected the name of a file, got the directory {output.tree}; add a name")
    if output.tree.suffix != ".nc":
        raise InputError(
            f"output: expected a name that ends in .nc (netCDF), got {output.tree}; for light curves as FITS add"
            " --lightcurves DIR"
        )
    check_not_input(output.tree, [catalog, *named_files(files)])
    for directory in (output.tree.parent, output.lightcurves, output.plots):
        if directory is not None:  # before the fit, not after it
            make_directory(directory)
    with _progress(6 + options.fit_va + (output.plots is not None), quiet=quiet) as step:
        machine = fit_files(files, catalog, options, step=step)
        step("writing")
        tree = machine.to_datatree()
        written = [save_tree(tree, output.tree)]
        if output.lightcurves is not None:
            from bayesprf.io.lightcurves import save_lightcurves

            save_lightcurves(output.lightcurves, tree)
            written.append(output.lightcurves)
        if output.plots is not None:
            from bayesprf.plots.canvas import save_figures
            from bayesprf.report.pictures import draw_pictures

            step("drawing")
            written += save_figures(draw_pictures(machine.fit, tree), output.plots)
    _say(format_summary(tree), quiet=quiet)
    if machine.verdict.sentences:
        _say(f"\n{machine.verdict}\n", quiet=quiet)
    _announce(written, quiet=quiet)
    return tree


def format_summary(tree: "xr.DataTree") -> str:
    """Return the summary of a tree as an aligned table, brightest source first.

    Parameters
    ----------
    tree : xarray.DataTree
        Results with fluxes.

    Returns
    -------
    str
        One line per source, at most forty, and what was learned of prior and noise.
    """
    from bayesprf.results.summary import describe_widths, summarize

    lines = summarize(tree)
    cells = [
        (
            line.source,
            f"{line.mag:.2f}",
            f"{line.flux:.1f}",
            f"{1e6 * line.scatter:.0f}",
            f"{1e6 * line.error:.0f}",
            f"{line.variability:.2f}",
            line.flag_names,
        )
        for line in lines[:_MAX_ROWS]
    ]
    widths = [max(len(row[i]) for row in (_HEADER, *cells)) for i in range(len(_HEADER))]
    table = [_align(row, widths) for row in (_HEADER, *cells)]
    more = [f"and {len(lines) - _MAX_ROWS} fainter sources"] if len(lines) > _MAX_ROWS else []
    return "\n".join([table[0], "-" * len(table[0]), *table[1:], *more, *describe_widths(tree)])


def _align(row: tuple[str, ...], widths: list[int]) -> str:
    numbers = [cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1], strict=True)]
    return "  ".join([row[0].ljust(widths[0]), *numbers, row[-1]]).rstrip()


@contextmanager
def _progress(n_step: int, *, quiet: bool) -> Iterator[Callable[[str], None]]:
    """Give a function that says which step begins; the clock of the bar ticks, and compiling is said once."""
    bar_format = "{n_fmt}/{total_fmt} |{bar:20}| {elapsed} {desc}"
    ended, begun = threading.Event(), itertools.count()
    with tqdm(total=n_step, disable=True if quiet else None, leave=False, bar_format=bar_format) as bar:

        def step(name: str) -> None:
            bar.n = next(begun)
            bar.set_description_str(name)

        def tick() -> None:
            while not ended.wait(_TICK_SECONDS):
                bar.refresh()

        clock = threading.Thread(target=tick, daemon=True)
        clock.start()
        try:
            with _said_compiling(quiet=bool(quiet or bar.disable)):
                yield step
        finally:
            ended.set()
            clock.join()


@contextmanager
def _said_compiling(*, quiet: bool) -> Iterator[None]:
    """Say when code is compiled for the first time on this machine."""
    if quiet:
        yield
        return
    from bayesprf.linalg.compiled.jit import when_compiling

    with when_compiling(lambda: tqdm.write("compiling, once on this machine (some ten seconds)", file=sys.stderr)):
        yield


def _announce(written: Iterable[Path], *, quiet: bool) -> None:
    for path in written:
        _say(f"wrote {path}", quiet=quiet)


def _say(text: str, *, quiet: bool) -> None:
    if not quiet:
        typer.echo(text)


class _LogFile(logging.FileHandler):
    """A log that ends in one sentence where the system refuses to write it on, and lets the work go on."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - as logging calls it
        """Say once what was refused."""
        _log.removeHandler(self)
        reason = sys.exc_info()[1]
        said = reason.strerror if isinstance(reason, OSError) else reason
        with suppress(OSError):  # what is left to be written is refused again
            self.close()
        tqdm.write(f"bayesprf: {self.baseFilename}: the log ends here ({said}); the fits go on", file=sys.stderr)


def _log_to(path: Path) -> None:
    """Write what the package logs, from INFO on, to a file."""
    try:
        handler = _LogFile(path, encoding="utf-8")
    except OSError as error:
        raise FileError(f"log: expected a file that can be written, got {path} ({error.strerror})") from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    _log.addHandler(handler)
    _log.setLevel(logging.INFO)


@app.callback()
def common(
    version: Annotated[bool, typer.Option("--version", help="Say the version and stop.")] = False,  # noqa: FBT002
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log the stages to the screen.")] = False,  # noqa: FBT002
) -> None:
    """Light curves of every star in crowded pixels, with uncertainties that can be believed."""
    if version:
        import bayesprf

        typer.echo(f"bayesprf {bayesprf.__version__}")
        raise typer.Exit
    if verbose:
        logging.basicConfig(format="%(asctime)s %(name)s %(message)s")
        _log.setLevel(logging.INFO)


def _show_warning(message: object, category: type[Warning], *_: object, **__: object) -> None:
    if issubclass(category, BayesprfWarning):
        tqdm.write(f"bayesprf: warning: {message}", file=sys.stderr)


def main() -> None:
    """Run the command line; an error of the package or of a file ends it with one sentence and exit code 1."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", BayesprfWarning)
            warnings.showwarning = _show_warning
            app()
    except (BayesprfError, OSError) as error:
        typer.echo(f"bayesprf: {error}", err=True)
        raise SystemExit(1) from error
