"""A first guess of a motion: the shift at which two pictures correlate best, over all shifts at once."""

from __future__ import annotations

import torch
from torch import Tensor

from physrestore.burst.cells import Grey
from physrestore.burst.warping import grid, sample

# Shifts that leave less than this share of a side in common cannot be told from chance.
LEAST_OVERLAP = 0.5
# Beyond it a difference counts no more, so that a moving object does not decide.
CAP = 9.0
# Highest values of the correlation that are looked at, and how far apart two of them must be to be two peaks.
HIGHEST, APART = 32, 4
# Pixels that a descent may go from a peak.
FARTHEST_DESCENT = 8


def shift_between(reference: Grey, frame: Grey) -> tuple[int, int]:
    """The whole-pixel shift (down, right) from the reference to the frame.

    Phase correlation: the cross spectrum, each frequency divided by its amplitude plus the noise's, so that strong and
    weak frequencies vote alike and those that are noise hardly do. From its highest peaks, and from no shift,
    one descends to the least difference of the pictures; the smallest wins.

    Args:
        reference: Any size.
        frame: The same size.

    Source:
        Kuglin & Hines, "The phase correlation image alignment method", IEEE Conf. Cybernetics and Society 1975.
    """
    height, width = reference.values.shape
    window = _window(height)[:, None] * _window(width)
    spectra = []
    for plane in (reference, frame):
        centred = (plane.values - plane.values.mean()) * window
        spectra.append(torch.fft.rfft2(centred))
    cross = spectra[1] * spectra[0].conj()
    noise = float((reference.variance * frame.variance).sqrt().mean() * window.square().sum())
    surface = torch.fft.irfft2(
        cross / (cross.abs() + noise).clamp(min=torch.finfo(torch.float32).tiny), (height, width)
    )
    allowed = _near(height)[:, None] & _near(width)
    starts = [(0, 0), *_peaks(surface.where(allowed, surface.new_tensor(-torch.inf)))]
    return min(
        (_descend(reference, frame, start) for start in starts), key=lambda shift: _misfit(reference, frame, shift)
    )


def _peaks(surface: Tensor) -> list[tuple[int, int]]:
    """The highest places of a correlation, as shifts."""
    height, width = surface.shape
    peaks: list[tuple[int, int]] = []
    for index in surface.flatten().topk(min(HIGHEST, surface.numel())).indices.tolist():
        shift = _signed(index // width, height), _signed(index % width, width)
        if all(max(abs(shift[0] - down), abs(shift[1] - right)) >= APART for down, right in peaks):
            peaks.append(shift)
    return peaks


def _descend(reference: Grey, frame: Grey, start: tuple[int, int]) -> tuple[int, int]:
    """Neighbour by neighbour to the least misfit: the window pulls the peak of smooth pictures towards zero."""
    best, least = start, _misfit(reference, frame, start)
    for _ in range(FARTHEST_DESCENT):
        around = [(best[0] + i, best[1] + j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]
        misfits = {shift: _misfit(reference, frame, shift) for shift in around}
        nearest = min(misfits, key=lambda shift: misfits[shift])
        if not misfits[nearest] < least:
            break
        best, least = nearest, misfits[nearest]
    return best


def _window(size: int) -> Tensor:
    return torch.hann_window(size, periodic=False)


def _near(size: int) -> Tensor:
    """Which shifts of a circular axis are small enough."""
    index = torch.arange(size)
    return torch.minimum(index, size - index) <= LEAST_OVERLAP * size


def _signed(index: int, size: int) -> int:
    return index if index <= size // 2 else index - size


def _misfit(reference: Grey, frame: Grey, shift: tuple[int, int]) -> float:
    """Capped squared difference in units of the pictures' own spread, where they overlap."""
    row, column = grid(*reference.values.shape)
    moved, inside = sample(frame.values[None], row + shift[0], column + shift[1])
    noise = reference.variance + frame.variance
    spread = noise + reference.values.var()
    error = ((moved[0] - reference.values).square() / spread).clamp(max=CAP)
    return float(error[inside].mean()) if bool(inside.any()) else CAP
