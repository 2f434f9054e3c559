"""How blurred a picture is, from its edges: what they show is the lens, the focus and a shaken hand.

A step that was blurred by a Gaussian of sigma and is blurred again by s has a slope of 1 / sqrt(sigma^2 + s^2) at its
middle. The ratio of the slopes for two s gives sigma, whatever the height of the step (Zhuo & Sim, "Defocus map
estimation from a single image", Pattern Recognition 44(9), 2011, equation 5). Edges of the scene are soft themselves,
lines look sharper than steps: the median of the lonely steps is taken. On Kodak24, blurred by 0.8, 1.2 and 2 pixels, it
finds 0.55 to 0.86, 1.05 to 1.17 and 1.7 to 1.9; unblurred, 0.3 or less: rather too little than too much.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from noise_models.frame import RawFrame
from noise_models.sensor import SensorNoise
from physrestore.demosaic import demosaic
from physrestore.errors import RestoreError

# The two blurs [pixels]: the first hides what demosaicking invents between sites, the second still fits between edges.
FIRST_BLUR, SECOND_BLUR = 1.0, 2.0
# An edge counts if its slope is so many standard deviations of the noise, so many times larger across than along it,
# and if FLAT_FROM pixels to its sides the slope has fallen to FLAT_SHARE of it.
CLEAR_ERRORS = 10.0
UPRIGHT = 2.0
FLAT_FROM, FLAT_SHARE = 5, 0.15
# Squared widths of single edges scatter by about 1 px^2: the median of so many is known to 0.1 px^2.
FEWEST_EDGES = 150
# An ideal step that was demosaicked shows 0.50: less than this is no blur of the picture.
SHARP_PX = 0.55
# Beyond this, a Gaussian is no model of what happened, and the frequencies are gone.
WIDEST_PX = 3.0
# Places looked at, per axis, and their side [sites]; a multiple of every array's period.
PLACES, SIDE = 3, 480
BORDER = 8


@dataclass(frozen=True)
class FoundBlur:
    """A Gaussian that explains the sharpest edges.

    Attributes:
        sigma_px: Its std [sites].
        edges: How many edges said so.
    """

    sigma_px: float
    edges: int

    @property
    def kernel(self) -> Tensor | None:
        """What is to be undone; None: the picture is sharp."""
        if self.sigma_px < SHARP_PX:
            return None
        from physrestore.operators.kernels import gaussian_profile

        profile = gaussian_profile(self.sigma_px).float()
        return profile[:, None] * profile

    @property
    def numbers(self) -> dict[str, float]:
        """For the record."""
        return {"blur_found_px": self.sigma_px, "blur_edges": float(self.edges)}

    @property
    def note(self) -> str:
        """For the user."""
        found = f"{self.edges} edges show a blur of {self.sigma_px:.2f} pixels"
        return (
            f"{found}: the picture is sharp, nothing was undone." if self.kernel is None else f"{found}; it was undone."
        )


def found_blur(frame: RawFrame, noise: SensorNoise) -> FoundBlur:
    """The blur of a frame.

    Raises:
        RestoreError: too few clear edges, or a blur too wide for a Gaussian.
    """
    affine = noise.affine(frame.cfa, frame.black_level, frame.white_level)
    a, b = float(affine.a.mean()), float(affine.b.mean())
    pieces = _places(frame)
    widths = np.concatenate([_edge_widths(way, a, b) for green in pieces for way in (green, green.T)])
    if widths.size < FEWEST_EDGES:
        raise RestoreError(
            f"The blur cannot be estimated: {widths.size} clear edges were found, and {FEWEST_EDGES} are needed. Give "
            "the blur (--deblur gaussian:0.8), or leave --deblur out."
        )
    sigma = max(0.0, float(np.median(widths))) ** 0.5
    if sigma > WIDEST_PX:
        raise RestoreError(
            f"The edges have a blur of {sigma:.1f} pixels, more than the {WIDEST_PX:g} that can be undone as "
            "a Gaussian. If the picture is out of focus or shaken, give its kernel as a file."
        )
    return FoundBlur(sigma, int(widths.size))


def _places(frame: RawFrame) -> list[NDArray[np.float32]]:
    """Green light at some places of the frame."""
    x, period = frame.linear(), frame.cfa.period[0]
    tops, lefts = (
        [0]
        if size <= SIDE
        else sorted({int(k * (size - SIDE) / (PLACES - 1)) // period * period for k in range(PLACES)})
        for size in frame.shape
    )
    pieces = (x[..., top : top + SIDE, left : left + SIDE] for top in tops for left in lefts)
    return [demosaic(piece, frame.cfa)[0, 1].numpy() for piece in pieces]


def _edge_widths(light: NDArray[np.float32], a: float, b: float) -> NDArray[np.float64]:
    """Squared blur [pixels^2] at every clear, upright, lonely edge of a piece; below zero by noise or a neighbour."""
    along, down = (ndimage.gaussian_filter(light, FIRST_BLUR, order=order) for order in ((0, 1), (1, 0)))
    steep = abs(along)
    # White noise of std 1 has a slope of std 1 / (sqrt(8 pi) s^2) after a Gaussian s.
    mean = np.clip(ndimage.gaussian_filter(light, SECOND_BLUR), 0.0, None)
    slope_noise = np.sqrt((a * mean + b) / (8.0 * np.pi)) / FIRST_BLUR**2
    clear = (steep > CLEAR_ERRORS * slope_noise) & (steep > UPRIGHT * abs(down))
    for shift in (-1, 1):
        clear &= steep >= np.roll(steep, shift, axis=1)
    # A step is flat on both sides: other edges nearby would change its slopes.
    for shift in (-FLAT_FROM - 1, -FLAT_FROM, FLAT_FROM, FLAT_FROM + 1):
        clear &= np.roll(steep, shift, axis=1) < FLAT_SHARE * steep
    clear[:BORDER], clear[-BORDER:], clear[:, :BORDER], clear[:, -BORDER:] = False, False, False, False
    again = abs(ndimage.gaussian_filter(light, SECOND_BLUR, order=(0, 1)))
    ratio = (steep[clear] / again[clear]).astype(np.float64) ** 2
    ratio = ratio[ratio > 1.0]
    widths: NDArray[np.float64] = (SECOND_BLUR**2 - ratio * FIRST_BLUR**2) / (ratio - 1.0)
    return widths
