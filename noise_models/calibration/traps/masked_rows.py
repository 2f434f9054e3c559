"""Covered rows and columns inside the visible area, seen in a flat.

Some raw files count rows of the optical black as picture (about 40 rows and 64 columns of the Sony A7R V). They are
dark next to lit ones; a lens's vignetting is never that steep.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from noise_models.calibration.traps.finding import Finding, unjudged
from noise_models.calibration.traps.tiles import F64, MAD_TO_STD
from noise_models.frame import RawFrame

TRAP = "masked_rows"

# Light of a covered line or block as a share of the frame's median, and of the lit ones beside it.
DARK_SHARE = 0.1
STEP_SHARE = 0.25

# Side of a block [pixels]: covered corners that do not span a whole line.
BLOCK = 16
# A frame whose light is below twice its pixel noise cannot tell a dark block (1/16 of that noise) with certainty.
_SMALLEST_SNR = 2.0
_MOST_SAMPLES = 1024
# The least noise that whole codes leave uncertain [DN].
_CODE_STEP_DN = 1.0


def find_masked_rows(flat: RawFrame) -> Finding:
    """Look for covered lines and corners in one flat.

    Args:
        flat: Lit everywhere, not saturated; vignetting does no harm.

    Returns:
        The number of dark rows, columns and blocks of 16 x 16 pixels.
    """
    signal = light(flat)
    level, noise = _level_and_noise(signal, flat.cfa.period)
    if level < _SMALLEST_SNR * max(noise, _CODE_STEP_DN):
        return unjudged(
            TRAP, 1.0, f"Too dark: light of {level:.1f} DN against noise of {noise:.1f} DN.", "Give a brighter flat."
        )
    rows = dark_lines(signal.mean(axis=1, dtype=np.float64), period=flat.cfa.period[0])
    columns = dark_lines(signal.mean(axis=0, dtype=np.float64), period=flat.cfa.period[1])
    blocks = 0 if len(rows) or len(columns) else _dark_blocks(signal)
    number = len(rows) + len(columns) + blocks
    return Finding(
        trap=TRAP,
        found=number > 0,
        statistic=float(number),
        threshold=1.0,
        evidence=f"{_span('row', rows)}, {_span('column', columns)} and {blocks} blocks of {BLOCK} x {BLOCK} pixels "
        f"get less than {DARK_SHARE:.0%} of the frame's light ({level:.0f} DN above black).",
        advice="Leave these lines out of every measurement and crop them from pictures; they may serve as optical "
        "black."
        if number
        else "",
    )


def light(frame: RawFrame) -> NDArray[np.float32]:
    """DN above the declared black level, (H, W)."""
    signal = frame.mosaic.astype(np.float32)
    ph, pw = frame.cfa.period
    for i in range(ph):
        for j in range(pw):
            signal[i::ph, j::pw] -= np.float32(frame.black_level[i, j])
    return signal


def dark_lines(means: F64, *, period: int) -> NDArray[np.intp]:
    """Indices of lines that are dark beside lit ones.

    Args:
        means: Mean light of every line [DN].
        period: Of the CFA across the lines: lines of one phase are compared.
    """
    relative = np.empty_like(means)
    for phase in range(period):
        relative[phase::period] = means[phase::period] / max(
            float(np.median(means[phase::period])), np.finfo(float).eps
        )
    dark = relative < DARK_SHARE
    edges = np.flatnonzero(np.diff(np.concatenate(([False], dark, [False])).astype(np.int8)))
    found = []
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        beside = np.concatenate((relative[max(0, start - 2 * period) : start], relative[stop : stop + 2 * period]))
        inside = np.concatenate((relative[start : start + 2 * period], relative[max(start, stop - 2 * period) : stop]))
        if len(beside) and min(inside.min(), DARK_SHARE) < STEP_SHARE * beside.max():
            found.append(np.arange(start, stop))
    return np.concatenate(found) if found else np.arange(0)


def _dark_blocks(signal: NDArray[np.float32]) -> int:
    """Blocks along the border that are dark while a block two further in is lit."""
    rows, columns = signal.shape[0] // BLOCK, signal.shape[1] // BLOCK
    if min(rows, columns) < 3:
        return 0
    grid = signal[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK)
    relative = grid.mean(axis=(1, 3), dtype=np.float64)
    relative /= max(float(np.median(relative)), np.finfo(float).eps)
    padded = np.pad(relative, 2, mode="edge")
    beside = np.maximum.reduce([padded[:-4, 2:-2], padded[4:, 2:-2], padded[2:-2, :-4], padded[2:-2, 4:]])
    dark = (relative < DARK_SHARE) & (relative < STEP_SHARE * beside)
    # Covered sites lie at the border; a dark spot inside is dust or a defect.
    dark[1:-1, 1:-1] = False
    return int(np.count_nonzero(dark))


def _level_and_noise(signal: NDArray[np.float32], period: tuple[int, int]) -> tuple[float, float]:
    """Median light, and the pixel noise from steps between sites of one colour."""
    ph, pw = period
    step = ph * max(1, signal.shape[0] // (_MOST_SAMPLES * ph))
    sample = signal[::step]
    steps = sample[:, pw:] - sample[:, :-pw]
    return float(np.median(signal[::step])), MAD_TO_STD * float(np.median(np.abs(steps))) / np.sqrt(2.0)


def _span(kind: str, lines: NDArray[np.intp]) -> str:
    if not len(lines):
        return f"no {kind}s"
    return f"{len(lines)} {kind}s ({lines[0]} to {lines[-1]})"
