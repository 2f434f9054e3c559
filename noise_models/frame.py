"""What a raw file becomes: sensor values in DN with everything needed to interpret them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noise_models.cfa import Cfa

Matrix3 = tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]


class Integrity(Enum):
    """How far the bytes of a file can be trusted."""

    VERIFIED = "verified"  # a digest inside the file matches the decoded pixels
    UNVERIFIABLE = "unverifiable"  # nothing contradicts the file, but it carries no redundancy to prove it whole
    DAMAGED = "damaged"  # extents past the end of the file, zero-filled areas, or a digest that does not match


@dataclass(frozen=True)
class Colour:
    """The source's colour description, in DNG terms (DNG 1.7 specification, chapter 6).

    Attributes:
        as_shot_neutral: Camera-space colour of a neutral object, three values, largest 1. None: unknown.
        color_matrix1: XYZ (illuminant 1) to camera, rows R, G, B. None: unknown.
        calibration_illuminant1: EXIF LightSource code of matrix 1 (21 = D65).
        dng_tags: Colour and profile tags of a DNG source to be copied unchanged: tag number ->
            (TIFF type code, count, value bytes in little-endian order).
    """

    as_shot_neutral: tuple[float, float, float] | None = None
    color_matrix1: Matrix3 | None = None
    calibration_illuminant1: int = 21
    dng_tags: dict[int, tuple[int, int, bytes]] = field(default_factory=dict)


@dataclass(frozen=True)
class Shot:
    """How and with what a frame was taken. None means the file does not say; never a default."""

    make: str = ""
    model: str = ""
    lens: str | None = None
    iso: float | None = None
    exposure_s: float | None = None
    aperture: float | None = None
    focal_length_mm: float | None = None
    taken: str | None = None  # EXIF form "YYYY:MM:DD HH:MM:SS"

    @property
    def camera(self) -> str:
        """Make and model without the make repeated.

        >>> Shot(make="Canon", model="Canon EOS 30D").camera
        'Canon EOS 30D'
        """
        if self.model.lower().startswith(self.make.lower()):
            return self.model
        return f"{self.make} {self.model}".strip()


@dataclass(frozen=True)
class MaskedArea:
    """Optical-black pixels: covered sites that see no light.

    Attributes:
        side: "left", "right", "top" or "bottom" of the visible area.
        pixels: (h, w) uint16 [DN]. Rows of a left or right area are the rows of the visible area.
        cfa: The CFA as seen from the top-left of this area.
    """

    side: str
    pixels: NDArray[np.uint16]
    cfa: Cfa


@dataclass(frozen=True)
class Source:
    """Where a frame came from.

    Attributes:
        path: The file, or None for a frame made in memory.
        sha256: Of the whole file, hex; "" for a frame made in memory.
        decoder: Name and version, e.g. "LibRaw 0.22.2".
        integrity: Verdict on the bytes.
        integrity_evidence: One sentence: what was checked and found.
        container: "DNG", "TIFF" (CR2, NEF, ARW, ...), or "other".
    """

    path: Path | None = None
    sha256: str = ""
    decoder: str = ""
    integrity: Integrity = Integrity.UNVERIFIABLE
    integrity_evidence: str = ""
    container: str = "other"


@dataclass(frozen=True)
class RawFrame:
    """One exposure: the visible mosaic in DN and what is known about it.

    Attributes:
        mosaic: (H, W) uint16 [DN], visible area, as stored: black level not subtracted, nothing scaled. Read-only.
        cfa: Colour filter array from the top-left of ``mosaic``.
        black_level: One value per CFA site [DN], shape = ``cfa.period``; fractions kept.
        white_level: Same shape [DN]; the value at and above which a site counts as clipped.
        masked: Optical-black areas, possibly none.
        shot: Camera and exposure.
        colour: Colour description.
        orientation: EXIF orientation 1..8; the mosaic itself is never rotated.
        noise_profile: DNG NoiseProfile: (S, O) per colour plane R, G, B (or one pair for all), with
            variance(x) = S x + O for x in 0..1. None: the file has none.
        source: File, hash, decoder, integrity.

    Raises:
        ValueError: shapes that do not fit, a non-uint16 mosaic, or a white level not above the black level.
    """

    mosaic: NDArray[np.uint16]
    cfa: Cfa
    black_level: NDArray[np.float64]
    white_level: NDArray[np.float64]
    masked: tuple[MaskedArea, ...] = ()
    shot: Shot = field(default_factory=Shot)
    colour: Colour = field(default_factory=Colour)
    orientation: int = 1
    noise_profile: tuple[tuple[float, float], ...] | None = None
    source: Source = field(default_factory=Source)

    def __post_init__(self) -> None:
        """Check shapes once, so that nothing downstream has to."""
        if self.mosaic.dtype != np.uint16 or self.mosaic.ndim != 2:
            raise ValueError(f"mosaic must be (H, W) uint16, not {self.mosaic.shape} {self.mosaic.dtype}.")
        for name, level in (("black_level", self.black_level), ("white_level", self.white_level)):
            if level.shape != self.cfa.period or not np.isfinite(level).all():
                raise ValueError(f"{name} must be finite with shape {self.cfa.period}, not {level!r}.")
        if not (self.white_level > self.black_level).all():
            raise ValueError(f"white level {self.white_level.tolist()} is not above black {self.black_level.tolist()}.")
        if self.orientation not in range(1, 9):
            raise ValueError(f"EXIF orientation is 1..8, not {self.orientation}.")
        self.mosaic.flags.writeable = False

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the visible area."""
        height, width = self.mosaic.shape
        return height, width

    @property
    def megapixels(self) -> float:
        """Millions of sites of the visible area."""
        return math.prod(self.shape) / 1e6

    def linear(self) -> Tensor:
        """``x = (DN - black) / (white - black)`` per CFA site: (1, 1, H, W) float32, negative values kept."""
        height, width = self.shape
        black = tile_to(torch.from_numpy(self.black_level).float(), height, width)
        scale = tile_to(torch.from_numpy(1.0 / (self.white_level - self.black_level)).float(), height, width)
        x = torch.from_numpy(self.mosaic.astype(np.float32))
        return x.sub_(black).mul_(scale)[None, None]

    def clipped(self) -> Tensor:
        """Sites at or above the white level: (1, 1, H, W) bool."""
        height, width = self.shape
        white = tile_to(torch.from_numpy(self.white_level).float(), height, width)
        return (torch.from_numpy(self.mosaic.astype(np.float32)) >= white)[None, None]


def tile_to(period: Tensor, height: int, width: int) -> Tensor:
    """Repeat values per CFA site, (ph, pw), over an (H, W) frame."""
    ph, pw = period.shape
    return period.repeat(-(-height // ph), -(-width // pw))[:height, :width]
