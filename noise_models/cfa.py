"""Colour filter arrays as data: which colour a site has, and mosaic <-> colour planes.

Convention: a CFA is written row by row from the top-left of the *visible* area. "RGGB" means red at
(0, 0), green at (0, 1) and (1, 0), blue at (1, 1). Planes of a Bayer mosaic are always in the order
R, G1, G2, B whatever the phase; G1 is the green that shares its rows with red (LibRaw's colour 1). Quad-Bayer (every
colour of a Bayer period as a block of 2x2 sites) has the same planes, but no packed form.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from noise_models.errors import CfaError

BAYER_PHASES = ("RGGB", "GRBG", "GBRG", "BGGR")
BAYER_PLANES = ("R", "G1", "G2", "B")

# Fujifilm X-Trans as LibRaw reports it for a full frame (6x6, 20 green, 8 red, 8 blue); every crop of it is a
# cyclic shift, which `Cfa.shifted` makes.
XTRANS_ROWS = ("GGRGGB", "GGBGGR", "BRGRBG", "GGBGGR", "GGRGGB", "RBGBRG")

# Quad-Bayer with its blocks aligned to the corner; the other 15 shifts are crops of it.
QUAD_BAYER_ROWS = ("RRGG", "RRGG", "GGBB", "GGBB")


@dataclass(frozen=True)
class Cfa:
    """One period of a colour filter array.

    Attributes:
        rows: The period, one string of colour letters a row: ``("RG", "GB")``. Letters are R, G, B; a monochrome
            sensor is ``("M",)``.

    Raises:
        CfaError: not a Bayer phase, a shift of X-Trans or of quad-Bayer, or monochrome.
    """

    rows: tuple[str, ...]

    def __post_init__(self) -> None:
        """Accept the four kinds of array this package can process, nothing else."""
        if not (self.is_mono or self.is_bayer or self.is_xtrans or self.is_quad_bayer):
            given = "/".join(self.rows)
            raise CfaError(
                f"Not a supported colour filter array: {given!r}. Needed: a Bayer phase "
                f"({', '.join(BAYER_PHASES)}), X-Trans 6x6, quad-Bayer 4x4, or 'M' for monochrome."
            )

    @classmethod
    def parse(cls, name: str) -> Cfa:
        """The CFA of a name: a Bayer phase, ``"M"``, or the letters of a quad-Bayer (16) or X-Trans (36) period.

        >>> Cfa.parse("GRBG").rows
        ('GR', 'BG')
        """
        side = {1: 1, 4: 2, 16: 4, 36: 6}.get(len(name))
        if side is None:
            raise CfaError(f"Not a colour filter array: {name!r}. Needed: 1, 4, 16 or 36 letters, e.g. 'RGGB'.")
        return cls(tuple(name[i * side : (i + 1) * side] for i in range(side)))

    @property
    def name(self) -> str:
        """The letters row by row; the inverse of `parse`."""
        return "".join(self.rows)

    @property
    def period(self) -> tuple[int, int]:
        """Rows and columns after which the pattern repeats: (1, 1), (2, 2), (4, 4) or (6, 6)."""
        return len(self.rows), len(self.rows[0])

    @property
    def is_mono(self) -> bool:
        """No colour filters."""
        return self.rows == ("M",)

    @property
    def is_bayer(self) -> bool:
        """One of the four Bayer phases."""
        return "".join(self.rows) in BAYER_PHASES and len(self.rows) == 2

    @property
    def is_xtrans(self) -> bool:
        """X-Trans in one of its 36 cyclic shifts (18 differ)."""
        return self.rows in _XTRANS_SHIFTS

    @property
    def is_quad_bayer(self) -> bool:
        """Quad-Bayer 4x4 in one of its 16 cyclic shifts."""
        return self.rows in _QUAD_BAYER_SHIFTS

    def shifted(self, top: int, left: int) -> Cfa:
        """The CFA seen from ``top`` rows down and ``left`` columns right, as after a crop.

        >>> Cfa.parse("RGGB").shifted(0, 1).name
        'GRBG'
        """
        ph, pw = self.period
        return Cfa(_shift(self.rows, top % ph, left % pw))

    @cached_property
    def plane_names(self) -> tuple[str, ...]:
        """Names of the planes that a noise profile tells apart: R, G1, G2, B; R, G, B; or M."""
        if self.is_bayer or self.is_quad_bayer:
            return BAYER_PLANES
        return ("R", "G", "B") if self.is_xtrans else ("M",)

    @cached_property
    def plane_of_site(self) -> tuple[tuple[str, ...], ...]:
        """The plane name of each site of the period.

        >>> Cfa.parse("GBRG").plane_of_site
        (('G2', 'B'), ('R', 'G1'))
        """
        if self.plane_names != BAYER_PLANES:
            return tuple(tuple(row) for row in self.rows)
        return tuple(
            tuple(("G1" if "R" in row else "G2") if colour == "G" else colour for colour in row) for row in self.rows
        )

    def sites(self, plane: str) -> list[tuple[int, int]]:
        """(row, column) of every site of ``plane`` inside the period, row by row.

        Raises:
            CfaError: the array has no plane of that name.
        """
        if plane not in self.plane_names:
            raise CfaError(f"{self.name!r} has no plane {plane!r}. It has {', '.join(self.plane_names)}.")
        return [(i, j) for i, row in enumerate(self.plane_of_site) for j, name in enumerate(row) if name == plane]

    def plane_index(self, height: int, width: int, *, device: torch.device | str = "cpu") -> Tensor:
        """Index into `plane_names` of every pixel, (H, W) int64."""
        ph, pw = self.period
        tile = torch.tensor(
            [[self.plane_names.index(name) for name in row] for row in self.plane_of_site], device=device
        )
        return tile.repeat(-(-height // ph), -(-width // pw))[:height, :width]


def plane_mask(cfa: Cfa, plane: str, like: Tensor) -> Tensor:
    """Sites of one plane over a mosaic: (1, 1, H, W) bool on the device of ``like`` (..., H, W)."""
    height, width = like.shape[-2:]
    index = cfa.plane_index(height, width, device=like.device)
    return (index == cfa.plane_names.index(plane))[None, None]


def pack(mosaic: Tensor, cfa: Cfa) -> Tensor:
    """Bayer mosaic (..., 1, H, W) to planes (..., 4, H/2, W/2) in the order R, G1, G2, B.

    Raises:
        CfaError: not a Bayer array, or H or W is odd.
    """
    height, width = mosaic.shape[-2:]
    if not cfa.is_bayer:
        raise CfaError(f"Only Bayer mosaics have four packed planes; this one is {cfa.name!r}.")
    if height % 2 or width % 2 or mosaic.shape[-3] != 1:
        raise CfaError(f"pack needs shape (..., 1, H, W) with even H and W, not {tuple(mosaic.shape)}.")
    order = [cfa.sites(plane)[0] for plane in BAYER_PLANES]
    return torch.stack([mosaic[..., 0, i::2, j::2] for i, j in order], dim=-3)


def unpack(planes: Tensor, cfa: Cfa) -> Tensor:
    """Planes (..., 4, h, w) to the Bayer mosaic (..., 1, 2h, 2w); the inverse of `pack`.

    Raises:
        CfaError: not a Bayer array, or not four planes.
    """
    if not cfa.is_bayer or planes.shape[-3] != 4:
        raise CfaError(f"unpack needs a Bayer array and (..., 4, h, w), not {cfa.name!r} and {tuple(planes.shape)}.")
    h, w = planes.shape[-2:]
    mosaic = planes.new_empty((*planes.shape[:-3], 1, 2 * h, 2 * w))
    for k, plane in enumerate(BAYER_PLANES):
        i, j = cfa.sites(plane)[0]
        mosaic[..., 0, i::2, j::2] = planes[..., k, :, :]
    return mosaic


def _shift(rows: tuple[str, ...], top: int, left: int) -> tuple[str, ...]:
    rolled = rows[top:] + rows[:top]
    return tuple(row[left:] + row[:left] for row in rolled)


_XTRANS_SHIFTS = frozenset(_shift(XTRANS_ROWS, i, j) for i in range(6) for j in range(6))
_QUAD_BAYER_SHIFTS = frozenset(_shift(QUAD_BAYER_ROWS, i, j) for i in range(4) for j in range(4))
