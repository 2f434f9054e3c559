"""Zero-Shot Noise2Noise as a peer: our own implementation from the paper, for one image.

Source: Mansour & Heckel, "Zero-Shot Noise2Noise: efficient image denoising without any data", CVPR 2023: two diagonal
downsamplings, a network of two 3x3 and one 1x1 convolution with 48 channels that predicts the noise, residual and
consistency loss, Adam at 1e-3 halved every 1000 of 2000 steps.
"""

from __future__ import annotations

import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS, STEPS, HALVED_EVERY, RATE = 48, 2000, 1000, 1e-3


def denoise(y: Tensor, *, cpu_seconds: float, seed: int = 0) -> tuple[Tensor, int]:
    """Denoise (1, C, H, W) of even sides; also the steps done within the processor time."""
    torch.manual_seed(seed)
    channels = y.shape[1]
    network = nn.Sequential(
        nn.Conv2d(channels, CHANNELS, 3, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(CHANNELS, channels, 1),
    )
    optimiser = torch.optim.Adam(network.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.StepLR(optimiser, HALVED_EVERY, 0.5)
    begin, steps = time.process_time(), 0
    while steps < STEPS and time.process_time() - begin < cpu_seconds:
        optimiser.zero_grad()
        _loss(network, y).backward()
        optimiser.step()
        schedule.step()
        steps += 1
    with torch.no_grad():
        return y - network(y), steps


def _loss(network: nn.Module, y: Tensor) -> Tensor:
    first, second = _halves(y)
    clean_first, clean_second = first - network(first), second - network(second)
    whole_first, whole_second = _halves(y - network(y))
    residual = F.mse_loss(clean_first, second) + F.mse_loss(clean_second, first)
    consistency = F.mse_loss(clean_first, whole_first) + F.mse_loss(clean_second, whole_second)
    return 0.5 * (residual + consistency)


def _halves(y: Tensor) -> tuple[Tensor, Tensor]:
    """Means of the two diagonals of every 2x2 square."""
    a, b, c, d = y[..., 0::2, 0::2], y[..., 0::2, 1::2], y[..., 1::2, 0::2], y[..., 1::2, 1::2]
    return (b + c) / 2, (a + d) / 2
