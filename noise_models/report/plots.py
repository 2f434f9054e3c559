"""The figures of a calibration. Each function draws one and returns it as PNG bytes."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from noise_models.calibration.calibrate import Calibration
from noise_models.calibration.evidence import IsoEvidence
from noise_models.sensor import QUANTISATION_VARIANCE_DN2, Estimate, SensorNoise

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"R": "#d03030", "G1": "#2a9d3a", "G2": "#7cc242", "G": "#2a9d3a", "B": "#2f6fd0", "M": "#444444"}
DPI = 110
# Frequencies that the estimator removes (the mean, the parity of the rows) are rounding dust: not drawn.
SPECTRUM_FLOOR = 1e-12
SIZE = (6.4, 4.2)  # inches; two of them fit side by side on a laptop


def photon_transfer(entry: SensorNoise, seen: IsoEvidence) -> bytes | None:
    """Variance over mean with the fitted line, and below it the residuals in standard errors."""
    if not seen.transfer:
        return None
    figure = _figure((6.4, 5.4))
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
    return _png(figure)


def read_noise_over_iso(calibration: Calibration) -> bytes | None:
    """Read noise in electrons and in DN over ISO, segments of the conversion gain apart."""
    entries = calibration.profile.entries
    if len(entries) < 2:
        return None
    figure = _figure()
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
    return _png(figure)


def dark_histogram(entry: SensorNoise, seen: IsoEvidence) -> bytes:
    """Dark differences against a normal law of the same variance: straight shoulders are tails."""
    figure = _figure()
    axes = figure.subplots()
    edges = seen.histogram_edges
    centre, width = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
    for name, counts in seen.histogram.items():
        density = counts / max(int(counts.sum()), 1) / width
        axes.plot(centre, np.where(density > 0, density, np.nan), "-", lw=1, color=COLOURS[name], label=name)
    axes.plot(centre, stats.norm.pdf(centre), "k--", lw=1, label="normal")
    axes.set(yscale="log", ylim=(1e-7, 1), xlabel="dark difference [standard deviations]", ylabel="density")
    axes.set_title(f"Shape of the dark noise, ISO {entry.setting:g}: {entry.tail.kind}")
    axes.legend()
    return _png(figure)


def line_spectra(entry: SensorNoise, seen: IsoEvidence) -> bytes:
    """Spectra of row and column means; the dashed level is what pixel noise alone would give on average."""
    figure = _figure()
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
    return _png(figure)


def dark_map(entry: SensorNoise, seen: IsoEvidence) -> bytes:
    """The mean dark frame above black: shading, glow, fixed banding."""
    figure = _figure()
    axes = figure.subplots()
    centre = float(np.median(seen.mean_dark_dn))
    spread = float(np.percentile(np.abs(seen.mean_dark_dn - centre), 98)) or 1.0
    image = axes.imshow(seen.mean_dark_dn, cmap="coolwarm", vmin=centre - spread, vmax=centre + spread)
    figure.colorbar(image, ax=axes, label="DN above black")
    axes.set(title=f"Mean dark, ISO {entry.setting:g} ({seen.hot_pixels} hot pixels)", xticks=[], yticks=[])
    return _png(figure)


def black_over_frames(entry: SensorNoise, seen: IsoEvidence) -> bytes | None:
    """Black level of every dark: its jitter and drift."""
    if len(seen.frame_means_dn) < 3:
        return None
    figure = _figure()
    axes = figure.subplots()
    for name, column in zip(entry.planes, seen.frame_means_dn.T, strict=True):
        axes.plot(column, "o-", ms=3, lw=0.8, color=COLOURS[name], label=name)
    axes.set(xlabel="dark frame", ylabel="mean [DN]", title=f"Black level, ISO {entry.setting:g}")
    axes.legend()
    return _png(figure)


PER_ISO: dict[str, Callable[[SensorNoise, IsoEvidence], bytes | None]] = {
    "photon_transfer": photon_transfer,
    "dark_histogram": dark_histogram,
    "line_spectra": line_spectra,
    "dark_map": dark_map,
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


def _figure(size: tuple[float, float] = SIZE) -> Figure:
    # The object API: no global state, no display, and nothing to close.
    from matplotlib.figure import Figure

    return Figure(figsize=size, dpi=DPI, layout="constrained")


def _png(figure: Figure) -> bytes:
    for axes in figure.axes:
        _light(axes)
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def _light(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, color="#eeeeee", lw=0.6)
    axes.set_axisbelow(True)
