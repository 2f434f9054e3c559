"""Colour filter array, black and white level of a decoded raw, each from the best witness in the file.

A DNG's own tags come first: LibRaw truncates fractional blacks, indexes them by colour instead of place, and turns a
damaged colour filter array silently into a monochrome sensor. For other raws LibRaw's knowledge of the camera is all
there is.

Source: DNG specification 1.7.1, tags 33421, 33422, 50713-50717, 50829.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from noise_models.cfa import Cfa
from noise_models.errors import CfaError, DamagedRaw, UnsupportedRaw
from noise_models.reading.containers import Container
from noise_models.reading.decoder import Report
from noise_models.reading.rawtags import BITS_PER_SAMPLE, CFA_PATTERN, CFA_REPEAT, is_linear_mono, sensor_ifd
from noise_models.reading.tiffwalk import Ifd

BLACK_REPEAT, BLACK_LEVEL, BLACK_DELTA_H, BLACK_DELTA_V, WHITE_LEVEL = 50713, 50714, 50715, 50716, 50717
ACTIVE_AREA = 50829
# LibRaw's colour index where there is no filter.
_NO_FILTER = 6
_CFA_COLOURS = "RGB"  # CFAPattern codes 0, 1, 2

# A white level so close to black is a damaged tag, not a camera: the smallest sensors seen have 200 DN of range.
MIN_RANGE_DN = 16.0
# The largest 16-bit value is what LibRaw, and DNG by default, say when the file says nothing. A frame below this
# share of it contradicts it.
_UNKNOWN_WHITE_DN = 65535.0
_PLAUSIBLE_SHARE = 0.2


@dataclass(frozen=True)
class Levels:
    """Black and white per CFA site [DN], shape ``cfa.period``, and what a user should know of their origin."""

    black: NDArray[np.float64]
    white: NDArray[np.float64]
    notes: tuple[str, ...] = ()


def read_cfa(path: Path, container: Container, report: Report) -> Cfa:
    """The CFA from the top-left of the visible area.

    Raises:
        UnsupportedRaw: four colours, or a pattern that is neither Bayer nor X-Trans.
        DamagedRaw: a DNG whose tags contradict the decoder, or have no valid pattern.
    """
    ifd = _dng_ifd(container)
    if {index for row in report.colours for index in row} == {_NO_FILTER}:
        return _mono(path, container, ifd)
    letters = [[_letter(report, index) for index in row] for row in report.colours]
    cfa = _smallest_period(letters)
    if cfa is None:
        corner = "/".join("".join(row[:6]) for row in letters[:6])
        raise UnsupportedRaw(
            path,
            f"Its colour filter array ({report.colour_letters}; {corner}) is neither Bayer nor X-Trans. "
            "Only these two and monochrome sensors are supported.",
        )
    if ifd is not None:
        stated = _stated_cfa(path, ifd).shifted(*_offset_in_active_area(ifd, report))
        if stated != cfa:
            raise DamagedRaw(
                path, f"Its tags say the colour filter array is {stated.name}, its decoder says {cfa.name}."
            )
    return cfa


def _mono(path: Path, container: Container, ifd: Ifd | None) -> Cfa:
    if ifd is not None and is_linear_mono(ifd):
        return Cfa.parse("M")
    if ifd is not None:
        raise DamagedRaw(path, "It is a colour sensor's DNG, but its colour filter array cannot be read.")
    raise UnsupportedRaw(
        path,
        f"The decoder finds no colour filters, and a {container.name} file cannot confirm a monochrome sensor. "
        "Convert it to DNG to use it.",
    )


def _letter(report: Report, index: int) -> str:
    return report.colour_letters[index] if index < len(report.colour_letters) else "?"


def _smallest_period(letters: list[list[str]]) -> Cfa | None:
    """The supported CFA of which ``letters`` are copies side by side."""
    for side in (2, 6):
        rows = tuple("".join(row[:side]) for row in letters[:side])
        repeats = all(
            letter == rows[i % side][j % side] for i, row in enumerate(letters) for j, letter in enumerate(row)
        )
        if repeats:
            try:
                return Cfa(rows)
            except CfaError:
                return None
    return None


def _stated_cfa(path: Path, ifd: Ifd) -> Cfa:
    """The CFA of a DNG's tags, from the top-left of its active area."""
    repeat, pattern = ifd.integers(CFA_REPEAT), ifd.integers(CFA_PATTERN)
    side = repeat[0] if len(repeat) == 2 and repeat[0] == repeat[1] else 0
    if side == 0 or len(pattern) != side * side or not set(pattern) <= {0, 1, 2}:
        raise DamagedRaw(path, f"Its colour filter array tags are damaged (size {repeat}, {len(pattern)} colours).")
    name = "".join(_CFA_COLOURS[code] for code in pattern)
    try:
        return Cfa(tuple(name[i * side : (i + 1) * side] for i in range(side)))
    except CfaError as error:
        raise UnsupportedRaw(path, str(error)) from error


def _offset_in_active_area(ifd: Ifd, report: Report) -> tuple[int, int]:
    """Rows and columns by which LibRaw's visible area begins inside the active area (it makes odd margins even)."""
    area = ifd.integers(ACTIVE_AREA)
    top, left = area[:2] if len(area) == 4 else (0, 0)
    return report.margins[0] - top, report.margins[1] - left


def read_levels(path: Path, container: Container, report: Report, cfa: Cfa, brightest: int) -> Levels:
    """Black and white level per CFA site.

    Args:
        path: For messages.
        container: Of the file.
        report: LibRaw's.
        cfa: Of the visible area.
        brightest: Largest value of the visible area [DN].

    Raises:
        DamagedRaw: levels that no camera has.
        UnsupportedRaw: a black pattern that does not fit the CFA, or no usable white level.
    """
    ifd = _dng_ifd(container)
    notes: list[str] = []
    if ifd is None:
        black, white = _libraw_levels(path, report, cfa, brightest)
    else:
        black = _dng_black(path, ifd, report, cfa, notes)
        white = _dng_white(path, ifd, cfa, brightest, notes)
    if not (white > black + MIN_RANGE_DN).all():
        raise DamagedRaw(
            path,
            f"Its levels leave no range: black {black.ravel().tolist()}, white {white.ravel().tolist()} DN. "
            "The level tags are damaged.",
        )
    return Levels(black, white, tuple(notes))


def _libraw_levels(
    path: Path, report: Report, cfa: Cfa, brightest: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rows, cols = cfa.period
    index = np.array(report.colours)[:rows, :cols]
    blacks = [value if value is not None else np.nan for value in report.black]
    whites = [value for value in report.camera_white if value]
    camera_white = report.camera_white if len(whites) == len(report.camera_white) == 4 else [report.white] * 4
    if index.max() >= min(len(blacks), 4) or any(value is None for value in camera_white):
        raise DamagedRaw(path, "The decoder gives no black or white level.")
    black, white = np.array(blacks)[index], np.array(camera_white, dtype=np.float64)[index]
    if not np.isfinite(black).all():
        raise DamagedRaw(path, "The decoder gives no black level.")
    if white.max() >= _UNKNOWN_WHITE_DN and brightest < _PLAUSIBLE_SHARE * _UNKNOWN_WHITE_DN:
        raise UnsupportedRaw(
            path,
            f"The decoder does not know this camera's white level (brightest value {brightest} DN). "
            "Convert the file to DNG with a tool that knows the camera.",
        )
    return black, white


def _dng_black(path: Path, ifd: Ifd, report: Report, cfa: Cfa, notes: list[str]) -> NDArray[np.float64]:
    """Tags 50713-50716, seen from the visible area. Absent tags mean 0 (DNG specification)."""
    repeat = ifd.integers(BLACK_REPEAT) or (1, 1)
    values = ifd.numbers(BLACK_LEVEL) if BLACK_LEVEL in ifd.tags else np.zeros(1)
    if len(repeat) != 2 or min(repeat) < 1 or len(values) != repeat[0] * repeat[1] or not np.isfinite(values).all():
        raise DamagedRaw(path, f"Its black level tags are damaged (pattern {repeat}, values {values.tolist()[:8]}).")
    rows, cols = cfa.period
    if rows % repeat[0] or cols % repeat[1]:
        raise UnsupportedRaw(path, f"Its black levels repeat every {repeat} pixels, its colours every {cfa.period}.")
    down, right = _offset_in_active_area(ifd, report)
    pattern = values.reshape(repeat)
    black = np.array(
        [[pattern[(i + down) % repeat[0], (j + right) % repeat[1]] for j in range(cols)] for i in range(rows)]
    )
    for tag, axis, start in ((BLACK_DELTA_V, 0, down), (BLACK_DELTA_H, 1, right)):
        delta = ifd.numbers(tag)[start:]
        if delta.size >= cfa.period[axis]:
            black = black + _delta_per_site(path, delta, cfa.period[axis], axis, notes)
    return black


def _delta_per_site(
    path: Path, delta: NDArray[np.float64], period: int, axis: int, notes: list[str]
) -> NDArray[np.float64]:
    """Mean over rows (axis 0) or columns (axis 1) of each CFA phase, shaped to add to the black pattern."""
    if not np.isfinite(delta).all():
        raise DamagedRaw(path, "Its black level differences (tags 50715, 50716) are damaged.")
    means = np.array([delta[k::period].mean() for k in range(period)])
    rest = max(float(np.abs(delta[k::period] - means[k]).max()) for k in range(period))
    if rest > 0:
        line = ("row", "column")[axis]
        notes.append(f"black differs by {line} (up to {rest:.2g} DN from the mean of its colour, not applied)")
    return means.reshape((-1, 1) if axis == 0 else (1, -1))


def _dng_white(path: Path, ifd: Ifd, cfa: Cfa, brightest: int, notes: list[str]) -> NDArray[np.float64]:
    """Tag 50717; absent it means the largest value of the bit depth (DNG specification)."""
    if WHITE_LEVEL in ifd.tags:
        stated = ifd.numbers(WHITE_LEVEL)
        if len(stated) == 0 or not np.isfinite(stated[0]) or stated[0] <= 0:
            raise DamagedRaw(path, f"Its white level tag is damaged ({stated.tolist()[:4]}).")
        return np.full(cfa.period, float(stated[0]))
    white = 2.0 ** ifd.integer(BITS_PER_SAMPLE, 16) - 1
    if brightest < _PLAUSIBLE_SHARE * white:
        raise UnsupportedRaw(
            path,
            f"It has no white level tag, and its brightest value ({brightest} DN) contradicts the default "
            f"({white:.0f}). Add the tag, e.g. exiftool -SubIFD:WhiteLevel=16383.",
        )
    notes.append(f"no white level in the file: {white:.0f} DN by its bit depth")
    return np.full(cfa.period, white)


def _dng_ifd(container: Container) -> Ifd | None:
    return sensor_ifd(container.tiff) if container.kind == "DNG" and container.tiff is not None else None
