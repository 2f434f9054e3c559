"""Figures that test the profile of one ISO: response, stabilised variance, places of defects."""

from __future__ import annotations

import numpy as np

from noise_models.calibration.evidence import IsoEvidence
from noise_models.report.canvas import COLOURS, blank, png
from noise_models.sensor import SensorNoise

_MARKS = {"defective": ("#b03030", "hot, dead or stuck"), "blinking": ("#3060c0", "blinking")}


def linearity(entry: SensorNoise, seen: IsoEvidence) -> bytes | None:
    """Mean over light, and below it the deviations from the line."""
    if not seen.linearity:
        return None
    figure = blank((6.4, 5.0))
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    for name, response in seen.linearity.items():
        share = response.light / response.light.max()
        upper.plot(share, response.mean_dn, "o-", ms=3, lw=0.8, color=COLOURS[name], label=name)
        lower.plot(share, 100.0 * response.deviation, "o-", ms=3, lw=0.8, color=COLOURS[name])
    worst = max(response.error.value for response in seen.linearity.values())
    upper.set(ylabel="mean above black [DN]", title=f"Linearity, ISO {entry.setting:g}: error {100 * worst:.2g} %")
    upper.legend()
    lower.axhline(0.0, color="#999999", lw=0.8)
    lower.set(xlabel="light, brightest level = 1", ylabel="deviation [%]")
    return png(figure)


def stabilised(entry: SensorNoise, seen: IsoEvidence) -> bytes | None:
    """Variance after stabilisation over the mean: 1 where K and read noise hold."""
    if not any(seen.quality.stabilised.values()):
        return None
    from matplotlib.ticker import NullFormatter

    figure = blank()
    axes = figure.subplots()
    axes.axhline(1.0, color="#999999", lw=0.8)
    for name, levels in seen.quality.stabilised.items():
        mean = [level.mean_dn for level in levels]
        value = np.array([level.variance.value for level in levels])
        error = np.array([level.variance.standard_error or 0.0 for level in levels])
        axes.errorbar(mean, value, 2.0 * error, fmt="o", ms=3, lw=0.8, color=COLOURS[name], label=name)
    axes.set(xscale="log", xlabel="mean above black [DN]", ylabel="variance (bars: 2 standard errors)")
    axes.xaxis.set_minor_formatter(NullFormatter())  # labels between decades would run into each other
    axes.set_title(f"Flats after stabilisation, ISO {entry.setting:g} (1: the profile fits)")
    axes.legend()
    return png(figure)


def defect_map(entry: SensorNoise, seen: IsoEvidence) -> bytes | None:
    """Places of defective and of blinking sites."""
    if not any(len(places) for places in seen.defect_places.values()):
        return None
    height, width = seen.frame_shape
    figure = blank()
    axes = figure.subplots()
    for name, places in seen.defect_places.items():
        colour, label = _MARKS[name]
        if len(places):
            axes.plot(places[:, 1], places[:, 0], ".", ms=4, color=colour, label=f"{label} ({len(places)} shown)")
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="equal", xlabel="column", ylabel="row")
    axes.set_title(f"Defective sites, ISO {entry.setting:g} (blinking: looked for in the middle)")
    axes.legend(loc="upper right", fontsize="small", framealpha=0.9)
    return png(figure)
