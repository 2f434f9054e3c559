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


def shift_between(reference: Grey, frame: Grey) -> tuple[int, int]:
    """The whole-pixel shift (down, right) from the reference to the frame.

    Phase correlation: the cross spectrum, each frequency divided by its amplitude plus the noise's, so that strong and
    weak frequencies vote alike and those that are noise hardly do. Its highest peak stands against the shift of zero;
    whichever explains the difference of the pictures better wins.

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
    peak = int(surface.where(allowed, surface.new_tensor(-torch.inf)).argmax())
    down, right = (_signed(index, size) for index, size in ((peak // width, height), (peak % width, width)))
    return min(((0, 0), (down, right)), key=lambda shift: _misfit(reference, frame, shift))


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
    return float(error[inside].mean())
