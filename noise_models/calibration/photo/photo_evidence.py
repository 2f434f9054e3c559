"""What one photograph proves about its noise, and how far that can be trusted.

The fit of `envelope` knows its statistical error only. Texture that looks like noise, bands that disagree and a frame
in which hardly anything is smooth make K less certain than that; here those are put into numbers and into words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from noise_models.calibration.photo.block_energies import BAND_SIZE
from noise_models.calibration.photo.envelope import MEDIAN_ERROR, Bins, NoiseLaw, fit_law
from noise_models.calibration.photo.optical_black import OpticalBlack
from noise_models.sensor import QUANTISATION_VARIANCE_DN2, Estimate

Trust = Literal["good", "fair", "poor"]

# White texture (grain, fine surface structure) looks the same in all bands and lattices: this share of the variance is
# granted to it everywhere. Scanned slide film has 3 to 10 % (kodak24 at 300 e-).
UNSEEN_TEXTURE = 0.05
# Where little of the frame is smooth, that little is more likely the quiet tail of its texture than smooth. Added in
# proportion to 1 / sqrt(share of smooth blocks); 10 % of blocks give 8 %.
SCARCITY = 0.025
# A plane whose K differs from the others' by this many sigmas, model error included, keeps its own.
PLANE_SIGMAS = 4.0
# Beyond these the photo does not determine the noise.
MAX_GAIN_ERROR = 0.4
MAX_TEXTURE_SHARE = 0.5
MIN_SMOOTH_SHARE = 0.005
# Masked pixels are not the pixels of the image: their noise agrees within this ratio of the variance where it can be
# checked (Canon 30D: 2 %).
MASKED_VARIANCE_ERROR = 0.03


@dataclass(frozen=True)
class Evidence:
    """What a plot of the estimate needs.

    Attributes:
        bins: Points of the lower envelope; `Bins.smooth` says which ones the fit used.
        variance_error: Their standard errors [DN^2].
        law: The fitted line, with the texture term that was told from noise.
        smooth_share: Blocks that show noise only, as a share of all blocks in all planes.
        texture_share: Texture's part of the variance in the used bins.
        band_ratio: K from the middle band over K from the high band: 1 where noise is white and texture gone.
        optical_black: The masked pixels' measurement, or None.
        used_masked_noise: Whether it constrained the read noise.
    """

    bins: Bins
    variance_error: NDArray[np.float64]
    law: NoiseLaw
    smooth_share: float
    texture_share: float
    band_ratio: float
    optical_black: OpticalBlack | None
    used_masked_noise: bool


def gather_evidence(
    bins: Bins, law: NoiseLaw, dark: tuple[float, float] | None, masked: OpticalBlack | None, total: int
) -> Evidence:
    """Collect the evidence of a fit; ``total`` is the number of blocks of the frame, all lattices together."""
    used = bins.where(bins.smooth)
    middle = fit_law(used, "middle", law.noise(used.mean), dark)
    texture = law.texture * used.mean**2
    return Evidence(
        bins=bins,
        variance_error=_variance_error(bins, law),
        law=law,
        smooth_share=float(used.blocks.sum() / total),
        texture_share=float(np.average(texture / (texture + law.noise(used.mean)), weights=used.blocks)),
        band_ratio=middle.gain / max(law.gain, 1e-12),
        optical_black=masked,
        used_masked_noise=dark is not None,
    )


def _variance_error(bins: Bins, law: NoiseLaw) -> NDArray[np.float64]:
    return np.asarray(law.noise(bins.mean) * MEDIAN_ERROR * np.sqrt(2 / (BAND_SIZE["high"] * bins.blocks)))


def with_model_error(evidence: Evidence) -> tuple[Estimate, Estimate]:
    """K and the read noise with the errors that the fit itself cannot see."""
    law, used = evidence.law, evidence.bins.where(evidence.bins.smooth)
    unseen = math.hypot(UNSEEN_TEXTURE, SCARCITY / math.sqrt(max(evidence.smooth_share, 1e-6)))
    # Unseen texture is a share of the variance; seen from K, of the variance where the fit takes K from.
    expected = law.noise(used.mean)
    leverage = used.blocks * (used.mean / expected) ** 2
    per_signal = float(np.average(expected / np.maximum(used.mean, 1e-6), weights=leverage))
    disagreement = law.gain * abs(evidence.band_ratio - 1) / 2
    gain = Estimate(
        value=max(law.gain, 1e-12),
        standard_error=math.hypot(law.gain_error, unseen * per_signal, disagreement),
        method="one photo: lower envelope of variance over mean",
    )
    # Texture at the darkest level that was used goes into the intercept, as far as the masked pixels let it.
    lifted = unseen * float(expected[np.argmin(used.mean)])
    if evidence.used_masked_noise:
        lifted = min(lifted, MASKED_VARIANCE_ERROR * law.read_variance)
    error = math.hypot(math.sqrt(law.covariance[0, 0]), lifted)
    variance = max(law.read_variance - QUANTISATION_VARIANCE_DN2, 0.0)
    value = math.sqrt(variance)
    read = Estimate(
        value=value,
        standard_error=error / (2 * value) if variance > error else math.sqrt(error),
        method="masked pixels and one photo" if evidence.used_masked_noise else "one photo, extrapolated to black",
    )
    return gain, read


def plane_gains(evidence: Evidence, shared: Estimate) -> dict[str, Estimate]:
    """K per plane: the shared one, but for planes whose points lie clearly on another line.

    Cameras that scale red and blue before writing the file have their own K there.
    """
    assert shared.standard_error is not None
    law, used = evidence.law, evidence.bins.where(evidence.bins.smooth)
    error = _variance_error(used, law) * math.sqrt(max(law.chi2_dof, 1.0))
    signal = used.variance - law.read_variance - law.texture * used.mean**2
    gains = {}
    for name in dict.fromkeys(used.plane.tolist()):
        own = used.plane == name
        weight = (used.mean[own] / error[own]) ** 2
        gain = float(np.average(signal[own] / used.mean[own], weights=weight))
        own_error = math.hypot(1 / math.sqrt(float(weight.sum())), shared.standard_error)
        if gain > 0 and abs(gain - law.gain) > PLANE_SIGMAS * own_error:
            gains[name] = Estimate(value=gain, standard_error=own_error, method="one photo: this plane alone")
    return gains


def refusals_of(evidence: Evidence, gain: Estimate) -> tuple[str, ...]:
    """Why the photo does not determine its noise, one sentence each; empty if it does."""
    assert gain.standard_error is not None
    reasons = []
    if gain.standard_error > MAX_GAIN_ERROR * gain.value:
        uncertain = min(gain.standard_error / gain.value, 1.0)
        reasons.append(f"K would be uncertain by {uncertain:.0%}{' or more' if uncertain == 1.0 else ''} (one sigma).")
    if evidence.texture_share > MAX_TEXTURE_SHARE:
        reasons.append(f"{evidence.texture_share:.0%} of the variance is texture even in its smoothest areas.")
    if evidence.smooth_share < MIN_SMOOTH_SHARE:
        reasons.append(f"only {evidence.smooth_share:.2%} of it is smooth.")
    return tuple(reasons)


def grade(evidence: Evidence, gain: Estimate, own_gains: Mapping[str, Estimate]) -> tuple[Trust, tuple[str, ...]]:
    """The worst of several verdicts, with a sentence for each that is not good."""
    assert gain.standard_error is not None
    used = evidence.bins.mean[evidence.bins.smooth]
    span = float(used.max() / max(used.min(), 1.0))
    disagreement = abs(math.log(max(evidence.band_ratio, 1e-6)))
    checks = [
        (gain.standard_error / gain.value, 0.1, 0.2, "K is uncertain by {:.0%} (one sigma)."),
        (evidence.texture_share, 0.1, 0.2, "{:.0%} of the variance in the smoothest areas is texture."),
        (disagreement, 0.12, 0.25, "Frequency bands disagree on K by {:.0%}: texture, or noise that is not white."),
        (_line_scatter(evidence), 0.05, 0.1, "The levels scatter by {:.0%} about one line."),
        (1 / evidence.smooth_share, 20.0, 50.0, "Only one block in {:.0f} is smooth."),
    ]
    if not evidence.used_masked_noise:
        checks.append((1 / span, 1 / 3, 2 / 3, "Smooth areas are of nearly one brightness (ratio {:.2f})."))
    verdicts = [(1 + (value > poor), text.format(value)) for value, fair, poor, text in checks if value > fair]
    grades: tuple[Trust, ...] = ("good", "fair", "poor")
    if own_gains:
        verdicts.append((1, f"Planes do not share one K: {', '.join(own_gains)} differ from the rest."))
    reasons = [text for _, text in verdicts]
    if evidence.optical_black is not None and not evidence.used_masked_noise:
        reasons.append("The masked pixels are noisier than the image; only their black level was used.")
    return grades[max((verdict for verdict, _ in verdicts), default=0)], tuple(reasons)


def _line_scatter(evidence: Evidence) -> float:
    """Scatter of the used bins about the law beyond their statistical errors, as a ratio of the variance."""
    smooth = evidence.bins.smooth
    relative = evidence.variance_error[smooth] / evidence.law.noise(evidence.bins.mean[smooth])
    return math.sqrt(max(evidence.law.chi2_dof - 1.0, 0.0) * float(np.mean(relative**2)))
