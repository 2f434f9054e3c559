"""From a mosaic to the prediction of every site by its surroundings: features, network, head.

Two layouts. "mosaic": full resolution, one site hidden, the colours of the sites told; every filter array. "packed":
the four sites of a Bayer period side by side as planes, all four hidden, with the covariance between them; a quarter of
the work. The network refines an average of the visible neighbours of every colour, so that it starts as an
interpolation and not from nothing. It works on the white-balanced root of the light, where noise is even.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from noise_models.cfa import pack, unpack
from physrestore.errors import RestoreError
from physrestore.networks.blind_spot import (
    DilatedBlindSpot,
    DilatedConfig,
    MaskedBlindSpot,
    MaskedConfig,
    ShiftedBlindSpot,
    ShiftedConfig,
)
from physrestore.selfsup.blind_spot_data import Observed
from physrestore.selfsup.posterior import Evidence

# The average of neighbours reaches this far beyond the hole; even without its own row an X-Trans site then sees every
# colour.
AVERAGE_REACH = 3
AVERAGE_SIGMA = 1.2
# Predicted std in the root of the light (white is 1): at least this share of the noise's, at the start about 0.025.
LEAST_STD_SHARE = 0.02
STD_START = -3.0
STD_SCALE = 0.5
# Below this share of the root at zero light the root is continued by its tangent, for no prediction may lose its slope.
TANGENT_SHARE = 0.5


BlindSpotNetwork = ShiftedBlindSpot | DilatedBlindSpot | MaskedBlindSpot


@dataclass(frozen=True)
class BlindSpotConfig:
    """What kind of blind-spot predictor.

    Attributes:
        colours: Of the filter array: 3, or 1 for monochrome.
        architecture: "shifted" (half-plane U-Nets), "dilated" (one pass, no pooling), "masked" (the baseline).
        layout: "mosaic" or "packed"; packed is for Bayer.
        own_row: Whether a prediction sees its own row; must be False for row noise to be told from the scene.
        width: Channels.
        depth: Times the resolution is halved, or dilated blocks.
        hole: Side of the hole in sites (of packed periods), odd; larger than 1 for noise that neighbours share.

    Raises:
        ValueError: another number of colours, or packed monochrome.
    """

    colours: int = 3
    architecture: Literal["shifted", "dilated", "masked"] = "shifted"
    layout: Literal["mosaic", "packed"] = "mosaic"
    own_row: bool = False
    width: int = 24
    depth: int = 2
    hole: int = 1

    def __post_init__(self) -> None:
        """Check what the network's own configuration does not."""
        if self.colours not in (1, 3):
            raise ValueError(f"colours is 3, or 1 for monochrome, not {self.colours}.")
        if self.layout == "packed" and self.colours == 1:
            raise ValueError("A monochrome mosaic has no packed planes. Use layout 'mosaic'.")


@dataclass(frozen=True)
class Prediction:
    """Mean and covariance of the light, by the surroundings alone.

    Attributes:
        mean: (B, C, H, W), linear light.
        covariance: (B, C, C, H, W); C is 1 in the layout "mosaic".
        evidence: What was measured there, in the same layout, with the noise at the predicted mean.
    """

    mean: Tensor
    covariance: Tensor
    evidence: Evidence

    @property
    def variance(self) -> Tensor:
        """Diagonal of the covariance, (B, C, H, W)."""
        return self.covariance.diagonal(dim1=1, dim2=2).movedim(-1, 1)


class BlindSpotModel(nn.Module):
    """The predictor; see the module's text.

    Attributes:
        config: What kind.
    """

    def __init__(self, config: BlindSpotConfig) -> None:
        super().__init__()
        self.config = config
        self.network: BlindSpotNetwork = _network(config)

    def forward(self, observed: Observed, *, hole: int | None = None, lattice: int | None = None) -> Prediction:
        """Predict every site from its surroundings.

        Args:
            observed: Mosaics, with even sides where packed.
            hole: Side of the hole; None: the configuration's.
            lattice: Of the masked architecture, the one whose sites to predict (see `MaskedBlindSpot.centres`; the
                others' predictions are only averages); None: all.

        Raises:
            RestoreError: mosaics of another number of colours, or packed ones that are not Bayer.
        """
        hole = self.config.hole if hole is None else hole
        _check(self.config, observed)
        fields = _packed(observed) if self.config.layout == "packed" else _Fields.of(observed)
        averages = blind_average(fields.root * fields.colours, fields.known * fields.colours, hole, self.config.own_row)
        values = torch.cat([fields.root * fields.known, fields.known * fields.colours, fields.censored], dim=1)
        levels = fields.noise[:, :1] if self.config.layout == "mosaic" else fields.noise
        one_hot = fields.colours if self.config.layout == "mosaic" else fields.colours[:, :0]
        context = torch.cat([one_hot, averages, levels], dim=1)
        options = {} if lattice is None else {"lattices": (lattice,)}
        raw = self.network(values, context, hole=hole, **options)
        start = averages if self.config.layout == "packed" else (averages * fields.colours).sum(1, keepdim=True)
        return _head(raw, start, fields)

    @property
    def site(self) -> int:
        """Sites of the mosaic along one side of a pixel of the network."""
        return 2 if self.config.layout == "packed" else 1

    def reach(self, hole: int | None = None) -> int:
        """Sites beyond which nothing changes a prediction, at most."""
        hole = self.config.hole if hole is None else hole
        return self.site * max(self.network.reach(hole), hole // 2 + AVERAGE_REACH)

    def unpack(self, planes: Tensor, observed: Observed) -> Tensor:
        """Values in the prediction's layout, (B, C, h, w), to mosaics (B, 1, H, W)."""
        return unpack(planes, observed.cfa) if self.config.layout == "packed" else planes


@dataclass(frozen=True)
class _Fields:
    """An `Observed` in the layout of the network, (B, C, h, w) each; colours is (B, K, h, w)."""

    root: Tensor
    known: Tensor
    censored: Tensor
    colours: Tensor
    noise: Tensor
    balance: Tensor
    offset: Tensor
    gain: Tensor
    dark: Tensor
    light: Tensor

    @classmethod
    def of(cls, o: Observed) -> _Fields:
        return cls(
            root=o.root,
            known=o.known,
            censored=o.censored,
            colours=o.colours,
            noise=o.root_noise,
            balance=o.balance,
            offset=o.offset,
            gain=o.gain,
            dark=o.dark,
            light=o.light,
        )


def _packed(o: Observed) -> _Fields:
    def planes(x: Tensor) -> Tensor:
        return pack(x, o.cfa)

    full = _Fields.of(o)
    values = {name: planes(x) for name, x in vars(full).items() if name != "colours"}
    return _Fields(**values, colours=torch.ones_like(values["root"]))


def blind_average(values: Tensor, weights: Tensor, hole: int, own_row: bool) -> Tensor:
    """Average of the neighbours outside the hole, channel by channel; 0 where none has weight.

    Args:
        values: (B, C, H, W).
        weights: Same shape, not negative.
        hole: Side of the hole, or height of the band if the own row is hidden; odd.
        own_row: Whether other sites of the own row are seen.
    """
    reach = hole // 2 + AVERAGE_REACH
    offsets = torch.arange(-reach, reach + 1, device=values.device, dtype=values.dtype)
    bell = torch.exp(-0.5 * (offsets / (AVERAGE_SIGMA + hole // 2)).square())
    inside = offsets.abs() <= hole // 2
    hidden = inside[:, None] & (inside if own_row else torch.ones_like(inside))
    kernel = torch.where(hidden, torch.zeros(()).to(bell), bell[:, None] * bell)
    channels = values.shape[1]
    taps = kernel.expand(channels, 1, -1, -1)
    total = F.conv2d(values * weights, taps, padding=reach, groups=channels)
    weight = F.conv2d(weights, taps, padding=reach, groups=channels)
    return total / weight.clamp(min=torch.finfo(weight.dtype).tiny ** 0.5)


def _head(raw: Tensor, start: Tensor, fields: _Fields) -> Prediction:
    """Mean and covariance in linear light from the network's numbers in the root of the light."""
    channels = start.shape[1]
    root = start + raw[:, :channels]
    slope_at = torch.maximum(root, TANGENT_SHARE * (fields.balance * fields.offset).sqrt())
    slope = 2.0 * slope_at / fields.balance
    # x(t) = t^2 / g - c, continued by its tangent at the lowest t.
    mean = slope_at.square() / fields.balance - fields.offset + slope * (root - slope_at)
    std = F.softplus(raw[:, channels : 2 * channels] + STD_START) * STD_SCALE + LEAST_STD_SHARE * fields.noise
    factor = _factor(std, raw[:, 2 * channels :])
    scaled = slope.movedim(1, -1)[..., None] * factor
    covariance = (scaled @ scaled.transpose(-1, -2)).permute(0, 3, 4, 1, 2)
    noise = fields.gain * mean.clamp(min=0.0) + fields.dark
    evidence = Evidence(fields.light, noise, fields.known > 0, fields.censored)
    return Prediction(mean, covariance, evidence)


def _factor(std: Tensor, ratios: Tensor) -> Tensor:
    """Lower triangular factor of a covariance, (B, H, W, C, C); off the diagonal at most as large as on it."""
    diagonal = std.movedim(1, -1)
    channels = diagonal.shape[-1]
    i, j = torch.tril_indices(channels, channels, -1)
    below = torch.zeros(*diagonal.shape, channels, dtype=std.dtype, device=std.device)
    below[..., i, j] = torch.tanh(ratios).movedim(1, -1) * diagonal[..., i]
    return below + torch.diag_embed(diagonal)


def _check(config: BlindSpotConfig, observed: Observed) -> None:
    colours = 1 if observed.cfa.is_mono else 3
    if colours != config.colours or (config.layout == "packed" and not observed.cfa.is_bayer):
        raise RestoreError(
            f"This network is for {config.colours} colours in layout {config.layout!r}; the mosaic is "
            f"{observed.cfa.name!r}. Train one for this camera."
        )


def _network(config: BlindSpotConfig) -> BlindSpotNetwork:
    sites = 4 if config.layout == "packed" else 1
    known = 4 if config.layout == "packed" else config.colours
    values = sites + known + sites
    context = 8 if config.layout == "packed" else 2 * config.colours + 1
    outputs = 2 * sites + math.comb(sites, 2)
    common = {"in_channels": values, "context_channels": context, "out_channels": outputs, "width": config.width}
    if config.architecture == "shifted":
        rotations: Literal[2, 4] = 4 if config.own_row else 2
        return ShiftedBlindSpot(ShiftedConfig(**common, depth=config.depth, rotations=rotations, hole=config.hole))
    if config.architecture == "dilated":
        kernels = tuple(4 * (config.hole // 2) + 3 + 2 * k for k in range(2))
        return DilatedBlindSpot(
            DilatedConfig(**common, blocks=config.depth, kernels=kernels, own_row=config.own_row, hole=config.hole)
        )
    spacing = config.hole + 3
    return MaskedBlindSpot(
        MaskedConfig(**common, depth=config.depth, spacing=spacing, own_row=config.own_row, hole=config.hole)
    )
