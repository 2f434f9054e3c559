"""How wrong a restored pixel is expected to be, read off the restoration itself.

The squared error has four visible causes: noise that the prior let through, detail of about the size of the noise
that it could not tell from noise, colours guessed between their sites where there is fine detail, and picture that it
took away with the noise, which the residual shows. Each is one feature of the result; their weights were measured where
the truth is known. That costs a few moving averages and no further solve, and unlike drawing the noise again it counts
what the prior takes from every picture, which no second solve would show.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from noise_models.cfa import Cfa
from noise_models.stabilise import ANSCOMBE_OFFSET
from physrestore.pnp.joint import Measured
from physrestore.working_space import WorkingSpace, one_hot

# Windows [pixels], odd: detail is what differs from the mean of 3x3, its energy is averaged over 5x5; residuals over
# 13x13, two periods of X-Trans, since each tells little: a variance from n values is known to sqrt(2 / n).
DETAIL_WINDOW = 3
ENERGY_WINDOW = 5
RESIDUAL_WINDOW = 13


@dataclass(frozen=True)
class ErrorLaw:
    """Weights of the causes in the variance of the error, for `FEATURES` in this order.

    Attributes:
        measured: For a colour at a site that measured it.
        between: For the colours that a site did not measure.
    """

    measured: tuple[float, ...]
    between: tuple[float, ...]

    @classmethod
    def of(cls, cfa: Cfa) -> ErrorLaw:
        """That of the built-in prior: for Bayer, or an array of wider period."""
        return BAYER if cfa.is_bayer else WIDE


# Fitted to 18 pictures of CBSD432 (crops of 240x240, five exposures from 60 to 20000 electrons at white, three
# brightnesses), so that intervals of 90 % hold 90 % of the errors. On six pictures of Kodak24, which the fit has not
# seen, they hold 89 to 92 % of them, per brightness 85 to 96 %; but only 73 to 84 % above 0.3 of white at 160 electrons
# and fewer, where texture is lost without a trace (`python -m tests.benchmarks uncertainty` fits and judges).
FEATURES = ("noise", "detail within noise", "detail", "colour detail", "picture in the residual")
BAYER = ErrorLaw(measured=(0.113, 1.099, 0.0, 0.0, 0.611), between=(0.053, 1.934, 0.056, 18.5, 0.364))
WIDE = ErrorLaw(measured=(0.075, 1.731, 0.0, 0.009, 0.836), between=(0.049, 2.123, 0.072, 22.1, 0.575))


def features(v: Tensor, data: Measured) -> Tensor:
    """The causes of error at every value.

    Args:
        v: Restored picture in the working space, (3, H, W).
        data: What it was restored from.

    Returns:
        (5, 3, H, W): variances in the units of ``v`` squared, in the order of `FEATURES`.
    """
    noise = data.noise.square().expand_as(v)
    detail, colour = (detail_energy(p).expand_as(v) for p in (v, v - v.mean(0, keepdim=True)))
    sites = _sites(v, data)
    residual = ((data.values[0] - v) / data.noise).square()
    counts = sites.any(0, keepdim=True).to(v)
    excess = _mean((residual * sites).sum(0, keepdim=True), RESIDUAL_WINDOW)
    excess = excess / _mean(counts, RESIDUAL_WINDOW).clamp(min=1.0 / RESIDUAL_WINDOW**2) - 1.0
    return torch.stack([noise, detail * noise / (detail + noise), detail, colour, excess.clamp(min=0.0) * noise])


def error_std(v: Tensor, data: Measured, law: ErrorLaw) -> Tensor:
    """Expected error of every value of the working space, one std: (3, H, W)."""
    causes = features(v, data)
    measured, between = (torch.einsum("f,fchw->chw", v.new_tensor(w), causes) for w in (law.measured, law.between))
    return torch.where(_sites(v, data), measured, between).sqrt()


def in_light(std: Tensor, v: Tensor, space: WorkingSpace) -> Tensor:
    """An std of the working space as one of linear light: times the slope of the way back.

    Below black the slope is that of black: the truth is never darker.
    """
    gain, dark, balance = (p.reshape(3, 1, 1).to(v) for p in (space.gain, space.dark_noise, space.balance))
    black = (balance * (ANSCOMBE_OFFSET * gain + dark.square() / gain)).sqrt()
    return std * 2.0 * torch.maximum(v, black) / balance


def unknown_where_clipped(std: Tensor, data: Measured) -> Tensor:
    """NaN where a colour is not known: at its clipped sites, and between them as far as its nearest sites may be."""
    clipped = (_sites(std, data, known_only=False) & data.clipped).to(std)
    reach = 1 if data.cfa.is_bayer else 2
    spread = F.max_pool2d(clipped[None], 2 * reach + 1, stride=1, padding=reach)[0]
    return std.masked_fill(spread > 0, torch.nan)


def _sites(v: Tensor, data: Measured, *, known_only: bool = True) -> Tensor:
    """Where which colour was measured: (3, H, W) bool."""
    of_colour = one_hot(data.cfa, *v.shape[-2:])[0].to(v.device) > 0
    return of_colour & data.known if known_only else of_colour


def detail_energy(v: Tensor) -> Tensor:
    """Mean square of fine detail around every site, over all colours: (1, h, w), of pictures (C, h, w)."""
    return _mean((v - _mean(v, DETAIL_WINDOW)).square().mean(0, keepdim=True), ENERGY_WINDOW)


def _mean(v: Tensor, window: int) -> Tensor:
    """Moving mean; beyond the border there is nothing to count. One direction after the other is less work."""
    across = F.avg_pool2d(v[None], (1, window), 1, (0, window // 2), count_include_pad=False)
    return F.avg_pool2d(across, (window, 1), 1, (window // 2, 0), count_include_pad=False)[0]
