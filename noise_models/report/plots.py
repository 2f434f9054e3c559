"""The figures of a calibration. Each function draws one and returns it as PNG bytes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import stats

from noise_models.calibration.calibrate import Calibration
from noise_models.calibration.dark import HISTOGRAM_REACH
from noise_models.calibration.evidence import IsoEvidence
from noise_models.calibration.shape.tail_shapes import log_density
from noise_models.report.canvas import COLOURS, blank, png
from noise_models.report.fit_plots import defect_map, linearity, stabilised
from noise_models.sensor import QUANTISATION_VARIANCE_DN2, Estimate, SensorNoise

# Frequencies that the estimator removes (the mean, the parity of the rows) are rounding dust: not drawn.
SPECTRUM_FLOOR = 1e-12


def photon_transfer(entry: SensorNoise, seen: IsoEvidence) -> bytes | None:
    """Variance over mean with the fitted line, and below it the residuals in standard errors."""
    if not seen.transfer:
        return None
    figure = blank((6.4, 5.4))
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    for name, curve in seen.transfer.items():
        points, colour = curve.points, COLOURS[name]
        x = np.maximum(points.mean_dn, 1.0)  # darks are drawn at 1 DN, the left edge
        total = points.variance_dn2 + QUANTISATION_VARIANCE_DN2
        upper.errorbar(x[curve.used], total[curve.used], points.error_dn2[curve.used], fmt="o", ms=3, color=colour)
        upper.plot(x[~curve.used], total[~curve.used], "x", ms=4, color=colour, alpha=0.5)
        grid = np.geomspace(1.0, points.mean_dn.max(), 100)
        plane = entry.planes[name]
        upper.plot(grid, plane.variance(grid), "-", lw=1, color=colour, label=name)
        error = np.hypot(points.error_dn2, _gain(plane.gain) * points.mean_error_dn)
        lower.plot(
            x[curve.used], ((total - plane.variance(points.mean_dn)) / error)[curve.used], "o", ms=3, color=colour
        )
    upper.set(xscale="log", yscale="log", ylabel="temporal variance [DN²]")
    upper.set_title(f"Photon transfer, ISO {entry.setting:g} (crosses: not in the fit)")
    upper.legend()
    lower.axhspan(-2, 2, color="#dddddd")
    lower.set(xlabel="mean above black [DN] (darks at 1)", ylabel="residual [se]")
    return png(figure)


def read_noise_over_iso(calibration: Calibration) -> bytes | None:
    """Read noise in electrons and in DN over ISO, segments of the conversion gain apart."""
    entries = calibration.profile.entries
    if len(entries) < 2:
        return None
    figure = blank()
    left, right = figure.subplots(1, 2)
    for segment in sorted({entry.segment for entry in entries}):
        part = [entry for entry in entries if entry.segment == segment]
        for name in part[0].planes:
            isos = [entry.setting for entry in part]
            in_dn = [entry.planes[name].read_noise_dn for entry in part]
            right.plot(isos, [one.value for one in in_dn], "o-", ms=3, color=COLOURS[name])
            in_e = [entry.planes[name].read_noise for entry in part]
            known = [(iso, one.value) for iso, one in zip(isos, in_e, strict=True) if one is not None]
            if known:
                left.plot(
                    *zip(*known, strict=True), "o-", ms=3, color=COLOURS[name], label=name if segment == 0 else None
                )
    left.set(xscale="log", xlabel="ISO", ylabel="read noise [e-]", title="referred to the input")
    right.set(xscale="log", yscale="log", xlabel="ISO", ylabel="read noise [DN]", title="as recorded")
    left.legend()
    return png(figure)


_SHAPES = {"lognormal": "pixel sigmas, lognormal width", "tukey": "Tukey-lambda", "gaussian": "normal"}


def dark_histogram(entry: SensorNoise, seen: IsoEvidence) -> bytes:
    """Dark differences against a normal law of the same variance and, where it differs, the fitted shape."""
    figure = blank()
    axes = figure.subplots()
    for name, seen_counts in seen.histogram.items():
        middle, width = (seen_counts.edges[1:] + seen_counts.edges[:-1]) / 2, np.diff(seen_counts.edges)
        density = seen_counts.counts / max(int(seen_counts.counts.sum()), 1) / width
        axes.plot(middle, np.where(density > 0, density, np.nan), "-", lw=1, color=COLOURS[name], label=name)
    centre = np.linspace(-HISTOGRAM_REACH, HISTOGRAM_REACH, 201)
    axes.plot(centre, stats.norm.pdf(centre), "k--", lw=1, label="normal")
    if seen.tail_fit is not None and seen.tail_fit.shape is not None:
        fit, shape = seen.tail_fit, seen.tail_fit.shape
        std = fit.std.value
        scale = (2.0 * std**2 + 2.0 * QUANTISATION_VARIANCE_DN2) ** 0.5
        density = scale * np.exp(log_density(fit.kind, centre * scale, std=std, shape=shape.value))
        axes.plot(centre, density, "k-", lw=1, label=f"{_SHAPES[fit.kind]} {shape.value:.3g}")
    axes.set(yscale="log", ylim=(1e-7, 1), xlabel="dark difference [standard deviations]", ylabel="density")
    axes.set_title(f"Shape of the dark noise, ISO {entry.setting:g}: {entry.tail.kind}")
    axes.legend()
    return png(figure)


def line_spectra(entry: SensorNoise, seen: IsoEvidence) -> bytes:
    """Spectra of row and column means; the dashed level is what pixel noise alone would give on average."""
    figure = blank()
    axes = figure.subplots()
    for (frequency, power), label, colour in (
        (seen.row_spectrum, "rows", "#d03030"),
        (seen.column_spectrum, "columns", "#2f6fd0"),
    ):
        seen_at = (frequency > 0) & (power > power.max() * SPECTRUM_FLOOR)
        axes.plot(frequency[seen_at], power[seen_at], lw=0.8, color=colour, label=label)
    axes.set(yscale="log", xlabel="frequency [cycles per line]", ylabel="power [DN²]")
    axes.set_title(f"Line noise, ISO {entry.setting:g}: rows {entry.row_noise_dn.value:.3g} DN")
    axes.legend()
    return png(figure)


def dark_map(entry: SensorNoise, seen: IsoEvidence) -> bytes:
    """The mean dark frame above black: shading, glow, fixed banding."""
    figure = blank()
    axes = figure.subplots()
    centre = float(np.median(seen.mean_dark_dn))
    spread = float(np.percentile(np.abs(seen.mean_dark_dn - centre), 98)) or 1.0
    image = axes.imshow(seen.mean_dark_dn, cmap="coolwarm", vmin=centre - spread, vmax=centre + spread)
    figure.colorbar(image, ax=axes, label="DN above black")
    axes.set(title=f"Mean dark, ISO {entry.setting:g} ({seen.hot_pixels} hot pixels)", xticks=[], yticks=[])
    return png(figure)


def black_over_frames(entry: SensorNoise, seen: IsoEvidence) -> bytes | None:
    """Black level of every dark: its jitter and drift."""
    if len(seen.frame_means_dn) < 3:
        return None
    figure = blank()
    axes = figure.subplots()
    for name, column in zip(entry.planes, seen.frame_means_dn.T, strict=True):
        axes.plot(column, "o-", ms=3, lw=0.8, color=COLOURS[name], label=name)
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.set(xlabel="dark frame", ylabel="mean [DN]", title=f"Black level, ISO {entry.setting:g}")
    axes.legend()
    return png(figure)


PER_ISO: dict[str, Callable[[SensorNoise, IsoEvidence], bytes | None]] = {
    "photon_transfer": photon_transfer,
    "stabilised": stabilised,
    "linearity": linearity,
    "dark_histogram": dark_histogram,
    "line_spectra": line_spectra,
    "dark_map": dark_map,
    "defect_map": defect_map,
    "black_over_frames": black_over_frames,
}


def figures(calibration: Calibration) -> dict[str, bytes]:
    """Every figure as PNG bytes under the name that a file of it should have (without ending)."""
    drawn = {"read_noise_over_iso": read_noise_over_iso(calibration)}
    for entry in calibration.profile.entries:
        seen = calibration.evidence.get(entry.setting)
        if seen is not None:
            drawn |= {f"iso{entry.setting:g}_{name}": draw(entry, seen) for name, draw in PER_ISO.items()}
    return {name: png for name, png in drawn.items() if png is not None}


def _gain(estimate: Estimate | None) -> float:
    return 0.0 if estimate is None else estimate.value
