"""Every output name with its group, dimensions, unit, type and one sentence: labels come from here alone."""

from dataclasses import dataclass

from bayesprf.errors import InputError

FLUX_UNIT = "electron / s"


@dataclass(frozen=True, slots=True)
class Variable:
    """One named output.

    Parameters
    ----------
    name : str
        Name inside its group.
    dims : tuple of str
        Names of the axes, in order; empty for a single number.
    unit : str
        Unit as astropy writes it; "1" for a pure number, "" for text.
    long_name : str
        One line that says what it is.
    dtype : str
        NumPy type it is stored as: "float64", "int64", "int32", "bool" or "str".
    """

    name: str
    dims: tuple[str, ...]
    unit: str
    long_name: str
    dtype: str = "float64"


COORDINATES: tuple[Variable, ...] = (
    Variable("time", ("time",), "day", "mid-exposure time since time_zero_jd"),
    Variable("cadence_number", ("time",), "1", "cadence number of the mission", "int64"),
    Variable("source", ("source",), "", "name of the source", "str"),
)

_PHOTOMETRY = (
    Variable("flux", ("time", "source"), FLUX_UNIT, "total flux of the source from the PRF fit"),
    Variable("flux_err", ("time", "source"), FLUX_UNIT, "cadence-to-cadence standard deviation of flux"),
    Variable("flux_err_total", ("time", "source"), FLUX_UNIT, "standard deviation of flux with all common errors"),
    Variable("flux_err_common", ("source",), FLUX_UNIT, "part of flux_err_total that is common to all cadences"),
    Variable("flux_err_part", ("error_part", "source"), FLUX_UNIT, "parts of flux_err_common, by cause"),
    Variable("error_part", ("error_part",), "", "cause of each part: shape of the PRF, wing, positions, ...", "str"),
    Variable("sap_flux", ("time", "source"), FLUX_UNIT, "sum of the pixels in the aperture of the source"),
    Variable("sap_flux_err", ("time", "source"), FLUX_UNIT, "standard deviation of sap_flux"),
    Variable("flags", ("time", "source"), "1", "quality bits, see bayesprf.QualityFlag; 0 is good", "int32"),
    Variable("chi2", ("time", "source"), "1", "sum of squared residuals over errors in the source's pixels"),
    Variable("n_pixel_used", ("time", "source"), "1", "number of usable pixels of the source", "int32"),
    Variable("log_evidence", ("time",), "1", "log evidence of the fit, NaN under a flat prior or a robust fit"),
)

_CATALOG = (
    Variable("ra_deg", ("source",), "deg", "right ascension at the epoch of the data"),
    Variable("dec_deg", ("source",), "deg", "declination at the epoch of the data"),
    Variable("mag", ("source",), "mag", "catalogue magnitude"),
    Variable("catalog_flux", ("source",), "1", "catalogue flux, on the scale of the catalogue"),
    Variable("flux_estimate", ("source",), FLUX_UNIT, "first estimate of the flux, the mean of its prior"),
    Variable("radius", ("source",), "arcsec", "distance from the source to which its light is modelled"),
    Variable("psf_fraction", ("source",), "1", "share of the PRF that falls on the pixels"),
    Variable("completeness", ("source",), "1", "share of the source's flux inside its aperture (FLFRCSAP)"),
    Variable("crowding", ("source",), "1", "share of the flux in the aperture that is the source's (CROWDSAP)"),
    Variable("aperture_percentile", ("source",), "1", "PRF percentile whose isophote bounds the aperture"),
    Variable("n_pixel_aperture", ("source",), "1", "number of pixels in the aperture", "int32"),
    Variable("variance_from_neighbors", ("source",), "1", "share of the flux variance that is due to neighbours"),
    Variable("perturbed_ratio_mean", ("source",), "1", "mean over time of perturbed over mean PRF"),
    Variable("perturbed_std", ("source",), "1", "standard deviation over time of perturbed over mean PRF"),
    Variable("source_flags", ("source",), "1", "quality bits that hold at all cadences", "int32"),
    Variable("detector_column", ("source",), "pixel", "where the source lies on the detector, column"),
    Variable("detector_row", ("source",), "pixel", "where the source lies on the detector, row"),
)

_COVARIANCE = (
    Variable("source_i", ("pair",), "", "name of the first source of an overlapping pair", "str"),
    Variable("source_j", ("pair",), "", "name of the second source of an overlapping pair", "str"),
    Variable("correlation", ("pair",), "1", "correlation of the two flux errors, median over cadences"),
    Variable("correlation_per_time", ("time", "pair"), "1", "correlation of the two flux errors"),
)

_SHAPE = (
    Variable("psf_w", ("basis",), "dex", "weights of log10 PRF, normalised to one over the pixel plane"),
    Variable("psf_w_err", ("basis",), "dex", "standard deviation of psf_w"),
    Variable("psf_w_cov", ("basis", "basis_bis"), "dex2", "posterior covariance of psf_w"),
    Variable("radial_knots", ("radial_knot",), "arcsec", "radial break points of the splines"),
    Variable("n_r_knots", (), "1", "number of radial knots asked for", "int64"),
    Variable("n_phi_knots", (), "1", "number of knots on the circle", "int64"),
    Variable("rmin", (), "arcsec", "innermost radius of the spline knots"),
    Variable("rmax", (), "arcsec", "outermost radius of the spline knots"),
    Variable("cut_r", (), "arcsec", "radius inside which the PRF depends on the radius only"),
    Variable("pixel_area", (), "arcsec2", "area of a pixel on the sky"),
    Variable("tail_slope", (), "1", "power of the radius with which the PRF falls beyond rmax"),
    Variable("tail_bends", ("tail_bend",), "1", "changes of that power at wider radii, after a joint fit"),
    Variable("prf_sum", ("source",), "1", "sum of the PRF over the pixels at the source's place, which divides it"),
    Variable("prf_turn", ("source",), "rad", "by how much the PRF is turned against north at the source's place"),
    Variable("prf_color", ("source",), "1", "scaled colour of the source, which the PRF follows"),
    Variable("scale", (), "electron / s", "flux per unit of catalogue flux"),
    Variable("offset", ("sky_axis",), "arcsec", "common offset of the scene towards east and north"),
    Variable("intrinsic_scatter", (), "dex", "scatter of the pixels about the shape beyond their errors"),
    Variable("n_pixel_shape", (), "1", "number of pixels the shape was fitted to", "int64"),
    Variable("n_clipped", (), "1", "pixels of the shape fit that were left out as outliers", "int64"),
    Variable("shear", ("shear_axis",), "1", "stretch of the sky after which the core of the PRF is round"),
    Variable("prf_image", ("prf_place", "prf_north", "prf_east"), "1 / pixel", "PRF on a grid, for pictures"),
    Variable("prf_offset", ("prf_east",), "arcsec", "offset from the star of its columns and rows"),
    Variable("prf_position", ("prf_place", "sky_axis"), "1", "places in the field, -1 to 1 towards east and north"),
)

_IMAGE = (
    Variable("column", ("pixel",), "pixel", "detector column"),
    Variable("row", ("pixel",), "pixel", "detector row"),
    Variable("stamp", ("pixel",), "1", "number of the cutout", "int64"),
    Variable("flux", ("pixel",), FLUX_UNIT, "image that the PRF was fitted to, without background"),
    Variable("flux_err", ("pixel",), FLUX_UNIT, "standard deviation of flux; NaN where there are no data"),
    Variable("model", ("pixel",), FLUX_UNIT, "light of all sources in that image"),
)

_TIME_MODEL = (
    Variable("time_vectors", ("time", "time_vector"), "1", "time columns at every cadence, the first is one"),
    Variable("time_vector_name", ("time_vector",), "", "what each time column is", "str"),
    Variable("time_w", ("varying_vector", "position_basis"), "1", "weights of time column times position column"),
    Variable("time_w_err", ("varying_vector", "position_basis"), "1", "standard deviation of time_w"),
    Variable("position_knots", ("position_knot",), "arcsec", "break points of the position splines, both axes"),
    Variable("position_spacing", (), "", "spacing of the break points: linear or sqrt", "str"),
    Variable("position_degree", (), "1", "degree of the position splines", "int64"),
    Variable("field_order", (), "1", "degree in place by which motion differs over the field", "int64"),
    Variable("place", ("source", "detector_axis"), "1", "column and row of each source, scaled to -1 ... 1"),
    Variable("pixel_w", ("varying_vector", "pixel"), "1", "weights of what each pixel does beyond the common change"),
    Variable("source_w", ("varying_vector", "source"), "1", "weights that keep the sum of each source's PRF constant"),
    Variable("pixel_factor", ("pixel",), "1", "measured over modelled mean light of each pixel"),
    Variable("pixel_column", ("pixel",), "pixel", "detector column of each pixel"),
    Variable("pixel_row", ("pixel",), "pixel", "detector row of each pixel"),
    Variable("time_scatter", (), "1", "relative scatter of the binned pixels about the model beyond their errors"),
    Variable("n_clipped_time", (), "1", "binned pixels that were left out as outliers", "int64"),
    Variable("shift", ("time", "sky_axis"), "arcsec", "shift of the PRF in the middle of the field, east and north"),
    Variable("shift_mix", ("time", "shift_part"), "1", "weight of each part of the shifted PRF"),
    Variable("shift_place", ("shift_node", "sky_axis"), "arcsec", "shifts at which the PRF is evaluated"),
    Variable("shift_combine", ("shift_part", "shift_node"), "1", "each part as a sum of the PRF at the nodes"),
    Variable("shift_sums", ("shift_node", "source"), "1", "by what the PRF of a source is divided at each node"),
    Variable("moving_light", ("light_part", "pixel"), FLUX_UNIT, "light of unknown stars per part of shift_mix"),
    Variable("moving_light_constant", ("pixel",), FLUX_UNIT, "what of that light does not move"),
)

_COMPARISON = (
    Variable("log_evidence", ("time",), "1", "log evidence of the cadence; also its log density given all others"),
    Variable("elpd_loo", ("time",), "1", "exact leave-one-out log densities, summed over pixels; NaN before loo()"),
    Variable("elpd_loo_pixel", ("pixel",), "1", "exact leave-one-out log densities, summed over cadences"),
    Variable("data_digest", (), "", "digest of the data; models of equal digests can be compared", "str"),
)

_QUALITY = (
    Variable("finding", ("finding",), "", "flag of each fault that was found, the worst first", "str"),
    Variable("finding_sentence", ("finding",), "", "what was found", "str"),
    Variable("finding_cure", ("finding",), "", "what to do about it", "str"),
    Variable("finding_effect", ("finding",), "1", "shift of the flux that it touches most, in units of its error"),
    Variable("cure", ("cure",), "", "what bayesprf.fit tried because of a fault: sky, stars, positions or roll", "str"),
    Variable("cure_reason", ("cure",), "", "the fault of the first fit", "str"),
    Variable("cure_result", ("cure",), "", "what was done, and what came of it", "str"),
    Variable("cure_kept", ("cure",), "1", "whether that was better, and the results have it", "bool"),
    Variable("quality_flags", ("source",), "1", "quality bits of the faults", "int32"),
    Variable("chi2_image", (), "1", "mean squared residual over error of the mean image's pixels, noise alone"),
    Variable("misplaced_field", (), "1", "share of a typical star's light that the PRF puts into the wrong pixels"),
    Variable("n_calibrator", (), "1", "stars whose deviations from the PRF could be measured", "int64"),
    Variable("n_training_pixel", (), "1", "pairs of star and pixel that trained the PRF", "int64"),
    Variable("offset_pixel", (), "pixel", "common offset between catalogue and pixels"),
    Variable("converged", (), "1", "whether the iterations settled", "bool"),
    Variable("pointing_span", (), "pixel", "distance within which 90 % of the cadences' pointings lie"),
    Variable("motion_left", (), "pixel", "root mean square of the motion that the model does not follow"),
    Variable("sky_left", (), FLUX_UNIT, "constant that the pixels still hold; NaN where no pixel tells"),
    Variable("sky_left_err", (), FLUX_UNIT, "standard deviation of sky_left"),
    Variable("n_peak", (), "1", "significant peaks of the residuals of the mean image", "int64"),
    Variable("field_trend", (), "1", "largest change of size or shape of the PRF over the field, relative"),
    Variable("field_trend_significance", (), "1", "that change over its standard deviation"),
    Variable("correlated_noise", (), FLUX_UNIT, "standard deviation of noise that neighbouring pixels share"),
    Variable("noise_ratio", (), "1", "scatter of the pixels in time over their errors"),
    Variable("misplaced", ("source",), "1", "share of the star's light that the PRF puts into the wrong pixels"),
    Variable("mismatch", ("source",), "1", "flux from the sum of the star's pixels less that of the fit, relative"),
    Variable("mismatch_err", ("source",), "1", "standard deviation of mismatch"),
    Variable("position_offset", ("source",), "pixel", "distance of the star from where the fit has it"),
    Variable("light_lost", ("source",), "1", "share of the flux that the fit misses because of that distance"),
    Variable("flux_from_sky", ("source",), "1", "share of the flux that sky_left makes"),
    Variable("flux_from_unknown", ("source",), "1", "share of the flux that the strongest peak makes"),
    Variable("split_error", ("source",), "1", "error of the mean flux with that of all positions, relative"),
    Variable("scatter_from_motion", ("source",), "1", "scatter that motion adds to the light curve, over flux_err"),
    Variable("scatter_from_noise", ("source",), "1", "scatter that shared noise adds to it, over flux_err"),
)

_BACKGROUND = (
    Variable("background_w", ("time", "background_column"), FLUX_UNIT, "sky per pixel, coefficient of each surface"),
    Variable("background_w_err", ("time", "background_column"), FLUX_UNIT, "standard deviation of background_w"),
    Variable("background_name", ("background_column",), "", "patch, and degree in column and row", "str"),
    Variable("background_patch", ("background_column",), "1", "number of the cutout, 0 for all pixels", "int64"),
    Variable("background_power", ("background_column", "detector_axis"), "1", "Legendre degrees: column, row", "int64"),
    Variable("background_centre", ("background_column", "detector_axis"), "pixel", "column and row where both are 0"),
    Variable(
        "background_half", ("background_column", "detector_axis"), "pixel", "distance from there to where it is 1"
    ),
    Variable("background_sigma", (), FLUX_UNIT, "standard deviation of the coefficients' prior around zero"),
)

_WIDTHS = (
    Variable("prior_width", ("source_group",), "1", "scatter of the mean fluxes about the expected ones, relative"),
    Variable("prior_width_err", ("source_group",), "1", "standard deviation of prior_width; 0 if it was fixed"),
    Variable("variability", ("source_group",), "1", "scatter of a flux in time, over the expected flux"),
    Variable("variability_err", ("source_group",), "1", "standard deviation of variability; 0 if fixed, NaN if none"),
    Variable("prior_group", ("source_group",), "", "name of the group of sources", "str"),
    Variable("zero_point", (), "1", "mean of the flux prior over the expected flux"),
    Variable("zero_point_err", (), "1", "standard deviation of zero_point; 0 if it was fixed"),
    Variable("noise_scale", ("pixel_group",), "1", "factor of the pixel errors"),
    Variable("noise_scale_err", ("pixel_group",), "1", "standard deviation of noise_scale; 0 if it was fixed"),
    Variable("noise_group", ("pixel_group",), "", "name of the group of pixels", "str"),
    Variable("model_error", (), "1", "relative error of the model in a pixel, the same at all cadences"),
    Variable("model_error_err", (), "1", "standard deviation of model_error; 0 if fixed, NaN if it was found to be 0"),
    Variable("image_scale", (), "1", "errors of the mean image over what the noise of its cadences leaves"),
    Variable("log_evidence_widths", (), "1", "log evidence of the mean image with these widths"),
    Variable("widths_converged", (), "1", "whether the evidence had a maximum", "bool"),
    Variable("n_source_widths", (), "1", "number of sources the prior was learned from", "int64"),
    Variable("n_cadence_widths", (), "1", "number of cadences the noise was learned from", "int64"),
    Variable("n_clipped_widths", (), "1", "pixels left out as farther than five standard deviations", "int64"),
    Variable("prior_mean", ("source",), FLUX_UNIT, "mean of the flux prior"),
    Variable("prior_sigma", ("source",), FLUX_UNIT, "standard deviation of the flux prior"),
    Variable("noise_factor", ("pixel",), "1", "factor of the errors of each pixel"),
    Variable("model_variance", ("pixel",), "electron2 / s2", "what the fit added to the variance of each pixel"),
)

_RECIPE = (
    Variable("time_mask", ("time",), "1", "whether the cadence entered the mean image", "bool"),
    Variable("other_vectors", ("other_vector", "time"), "1", "further time columns, as given"),
    Variable("prior_mu", ("source",), FLUX_UNIT, "mean of the flux prior, as given"),
    Variable("prior_sigma", ("source",), FLUX_UNIT, "standard deviation of the flux prior, as given"),
)

_PROCESS = (
    Variable("flux", ("time", "source"), FLUX_UNIT, "flux as a process in time, given all cadences; gaps are filled"),
    Variable("flux_err", ("time", "source"), FLUX_UNIT, "standard deviation of flux, common errors aside"),
    Variable("kernel_err", ("time", "source"), FLUX_UNIT, "part of flux_err by a kernel that was learned"),
    Variable("level", ("source",), FLUX_UNIT, "flux about which the source varies"),
    Variable("level_err", ("source",), FLUX_UNIT, "standard deviation of level"),
    Variable("dip", ("source",), FLUX_UNIT, "light lost at full depth of the event given as template; NaN without"),
    Variable("dip_err", ("source",), FLUX_UNIT, "standard deviation of dip"),
    Variable("kernel", ("source",), "", "family of the process; empty for a flux free at every cadence", "str"),
    Variable("sigma", ("source",), FLUX_UNIT, "standard deviation of the process"),
    Variable("scale", ("source",), "day", "correlation time of the process, or period of the oscillator"),
    Variable("white", ("source",), FLUX_UNIT, "standard deviation of variation independent between cadences"),
    Variable("quality", ("source",), "1", "quality factor of the oscillator; NaN for other kernels"),
    Variable("log_bayes_factor", ("source",), "1", "learned process over white noise; below 0 white noise suffices"),
    Variable("process_group", ("source",), "1", "number of the group solved together; -1 for none", "int64"),
    Variable("event_template", ("time", "source"), "1", "shape of the event given for the source; NaN without"),
    Variable("log_evidence", ("time", "group"), "1", "log density of the cadence given those before it"),
    Variable("log_loo", ("time", "group"), "1", "log density of the cadence given all others"),
)

SCHEMA: dict[str, tuple[Variable, ...]] = {
    "photometry": _PHOTOMETRY,
    "catalog": _CATALOG,
    "quality": _QUALITY,
    "covariance": _COVARIANCE,
    "comparison": _COMPARISON,
    "background": _BACKGROUND,
    "widths": _WIDTHS,
    "process": _PROCESS,
    "shape": _SHAPE,
    "image": _IMAGE,
    "time_model": _TIME_MODEL,
    "recipe": _RECIPE,
}

GROUP_SENTENCES: dict[str, str] = {
    "photometry": "Fluxes of every source at every cadence, with errors and flags.",
    "catalog": "The input catalogue as given, plus diagnostics of every source.",
    "quality": "Faults of the fit that were found, and the measurements behind them.",
    "covariance": "Overlapping pairs of sources and the correlation of their flux errors.",
    "comparison": "What it takes to compare this fit with others of the same data.",
    "background": "The sky fitted under the stars at every cadence.",
    "widths": "Learned widths of the flux fit: enough to fit with them again.",
    "process": "Light curves as Gaussian processes in time.",
    "shape": "The PRF shape: enough to evaluate it again.",
    "image": "The image that the PRF was fitted to, and its model.",
    "time_model": "The change of the PRF with time: enough to evaluate it again.",
    "recipe": "Arrays among the options that the stages were given, to run them again.",
}

OPEN_GROUPS: tuple[str, ...] = ("catalog",)


def find_variable(group: str, name: str) -> Variable:
    """Return the schema entry of a variable.

    Parameters
    ----------
    group : str
        Name of the group, without slash.
    name : str
        Name inside the group. In the groups of `OPEN_GROUPS` any further name is a column given by the
        user, one value per source.

    Returns
    -------
    Variable

    Raises
    ------
    InputError
        If the group or the name is unknown.
    """
    if group not in SCHEMA:
        raise InputError(f"groups: expected some of {', '.join(SCHEMA)}, got {group!r}")
    for variable in SCHEMA[group]:
        if variable.name == name:
            return variable
    if group in OPEN_GROUPS:
        return Variable(name, ("source",), "", f"catalogue column {name}, as given", "as given")
    known = ", ".join(variable.name for variable in SCHEMA[group])
    raise InputError(f"groups[{group!r}]: expected names of the schema ({known}), got {name!r}; add it to the schema")
