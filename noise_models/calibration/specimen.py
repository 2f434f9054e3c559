"""A piece of the frames of one level, kept for what needs several of them at once.

Shape of the read noise, blinking pixels, and the comparison of real with simulated frames look at single pixels over
frames. A million sites in the middle of the frame tell what all 24 million would, and eight such pieces are 16 MB.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from noise_models.calibration.pairs import all_sites, sublattice
from noise_models.calibration.shape.rts import FEWEST_FRAMES, TemporalDefects, TemporalMoments, find_defects
from noise_models.calibration.shape.tail_fit import TailFit, fit_tail
from noise_models.cfa import Cfa
from noise_models.frame import RawFrame
from noise_models.sensor import Tail

U16 = NDArray[np.uint16]
Bool = NDArray[np.bool_]
Site = tuple[int, int]

# Side of the piece [sites]; a multiple of two. X-Trans takes the next lower multiple of six.
SIDE = 1024
MOST_FRAMES = 8
# The shape is fitted to so many frames; the others judge it.
SHAPE_FRAMES = 4
# Fewer sites give a shape too uncertain to be believed.
FEWEST_SITES = 25_000
# Below half a DN the moments of differences are wrong; shapes need more (`tail_fit`).
SMALLEST_STD_DN = 0.5


def window(shape: tuple[int, int], cfa: Cfa) -> tuple[slice, slice]:
    """The middle of a frame, cut at multiples of the CFA period."""
    parts = []
    for length, period in zip(shape, cfa.period, strict=True):
        size = min(SIDE, length) // period * period
        start = (length - size) // 2 // period * period
        parts.append(slice(start, start + size))
    return parts[0], parts[1]


def cut(raw: RawFrame) -> RawFrame:
    """The middle of a frame as a frame of its own."""
    return replace(raw, mosaic=np.ascontiguousarray(raw.mosaic[window(raw.shape, raw.cfa)]), masked=())


def shape_plane(cfa: Cfa) -> str:
    """The plane whose read noise stands for all: pixels under all filters have one circuit."""
    return next(plane for plane in ("G1", "G", "M") if plane in cfa.plane_names)


@dataclass
class DarkSpecimen:
    """The middle of the darks of one level.

    Attributes:
        expected: Frames that will come.
        frame_shape: Height and width of the whole frames.
        frames: The first eight.
        moments: Mean and variance over all frames, per CFA site; None where there will be too few.
        defects: Per CFA site, known from the whole frames; set by `finish`.
        tail_fit: Shape of the read noise of `shape_plane`; None: not measurable.
        blinking: Per CFA site; empty below eight frames.
    """

    expected: int
    frame_shape: tuple[int, int] = (0, 0)
    frames: list[RawFrame] = field(default_factory=list)
    moments: dict[Site, TemporalMoments] = field(default_factory=dict)
    defects: dict[Site, Bool] = field(default_factory=dict)
    tail_fit: TailFit | None = None
    blinking: dict[Site, TemporalDefects] = field(default_factory=dict)
    _skipped: dict[Site, Bool] = field(default_factory=dict)

    def add(self, raw: RawFrame) -> None:
        """Take one dark."""
        piece = cut(raw)
        if len(self.frames) < MOST_FRAMES:
            self.frames.append(piece)
        if self.expected >= FEWEST_FRAMES:
            for site in all_sites(raw.cfa):
                part = sublattice(piece.mosaic, site, raw.cfa.period)
                self.moments.setdefault(site, TemporalMoments(part.shape)).update(part)

    def stacked(self, site: Site) -> U16:
        """The kept frames at one CFA site, (n, h, w) [DN]."""
        return np.stack([sublattice(frame.mosaic, site, frame.cfa.period) for frame in self.frames])

    def finish(self, defects: dict[Site, Bool], skipped: dict[Site, Bool], *, pixel_std_dn: float) -> None:
        """Fit the shape of the read noise and find what blinks.

        Args:
            defects: Of the whole frames, per CFA site.
            skipped: Those of them that were left out of the noise of pairs.
            pixel_std_dn: Read noise of one pixel [DN].
        """
        cfa = self.frames[0].cfa
        rows, columns = (
            slice(part.start // period, part.stop // period)
            for part, period in zip(window(self.frame_shape, cfa), cfa.period, strict=True)
        )
        self.defects = {site: mask[rows, columns] for site, mask in defects.items()}
        self._skipped = {site: mask[rows, columns] for site, mask in skipped.items()}
        if pixel_std_dn < SMALLEST_STD_DN or len(self.frames) < 2:
            return
        site = cfa.sites(shape_plane(cfa))[0]
        self.tail_fit = self._shape(site)
        tail = self.tail
        # Tails that are independent from frame to frame make single frames stand out; a pixel's variance over a few
        # frames then says nothing of the pixel, and taking the large ones out would cut the tail off.
        independent = tail.kind == "tukey"
        if self.moments and not independent and next(iter(self.moments.values())).frames >= FEWEST_FRAMES:
            width = tail.shape.value if tail.kind == "lognormal" and tail.shape is not None else 0.0
            self.blinking = {at: find_defects(part, spread_width=width) for at, part in self.moments.items()}
            if self.blinking[site].blinking.any():
                self.tail_fit = self._shape(site)  # without what blinks

    @property
    def tail(self) -> Tail:
        """Shape of the read noise as a profile stores it; Gaussian where it was not fitted."""
        return Tail() if self.tail_fit is None else self.tail_fit.tail()

    def blinks(self, site: Site) -> Bool:
        """Sites (h, w) of one CFA site that blink; those not counted that stay hot in every frame."""
        return self.blinking[site].blinking & ~self._skipped[site]

    def blinking_share(self) -> float:
        """Share of sites that blink."""
        sites = sum(mask.size for mask in self.defects.values())
        return sum(int(self.blinks(site).sum()) for site in self.blinking) / max(sites, 1)

    def blinking_variance(self, sites: list[Site]) -> tuple[float, float]:
        """Variance [DN^2] that blinking sites add to the mean over all of some CFA sites, and its standard error.

        The error is that of taking the middle for the whole: none where the middle is the whole.
        """
        total, squares, count = 0.0, 0.0, 0
        for site in sites:
            if site not in self.blinking:
                return 0.0, 0.0
            found = self.blinking[site]
            excess = self.moments[site].variance()[self.blinks(site)].astype(np.float64)
            excess -= found.typical_variance
            total, squares = total + float(excess.sum()), squares + float((excess**2).sum())
            count += found.blinking.size
        middle = np.prod([part.stop - part.start for part in window(self.frame_shape, self.frames[0].cfa)])
        elsewhere = 1.0 - float(middle) / float(np.prod(self.frame_shape))
        return total / count, float(np.sqrt(squares * max(elsewhere, 0.0))) / count

    def _shape(self, site: Site) -> TailFit | None:
        frames = self.stacked(site)[:SHAPE_FRAMES]
        if frames[0].size < FEWEST_SITES:
            return None
        exclude = self.defects[site]
        if site in self.blinking:
            exclude = exclude | self.blinking[site].blinking
        return fit_tail(frames, exclude=exclude)
