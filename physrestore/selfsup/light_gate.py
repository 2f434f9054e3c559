"""A blind-spot network beside a network for mosaics, judged in linear light without the truth.

The two work in different spaces, so that both are judged where the raw file is: at the measured sites, in linear light,
by Stein's unbiased estimate of the squared error under the calibrated noise, on sites that training left out. Colours
that were not measured are not judged, for a blind-spot network does not give them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from noise_models.frame import RawFrame
from noise_models.sensor import SensorNoise
from physrestore.fast.tile import FastTile
from physrestore.networks.mosaic_net import MosaicNet
from physrestore.pnp.defects import repair_defects
from physrestore.selfsup.blind_spot import BlindSpotModel
from physrestore.selfsup.blind_spot_data import Observed
from physrestore.selfsup.blind_spot_restore import light_posterior
from physrestore.selfsup.losses.pixel_noise import PixelNoise
from physrestore.selfsup.losses.stein import Stein
from physrestore.working_space import WorkingSpace, one_hot

# Squares judged at most: a network's two passes over 2 megapixels take seconds.
MOST_SQUARES = 8
# Side of the areas that are taken for independent: errors of one edge or texture go together.
BLOCK = 16
# Better or worse at this many standard errors.
CONFIDENCE = 2.0


@dataclass(frozen=True, eq=False)
class LightSquare:
    """A square of a frame, as both kinds of network need it.

    Attributes:
        observed: Values and law of the noise; row offsets are still in the light.
        offsets: Row offsets by the classic estimate, (1, 1, H, W), linear: a network for mosaics is spared them.
        space: Working space of the whole frame; None for a monochrome one.
    """

    observed: Observed
    offsets: Tensor
    space: WorkingSpace | None

    @classmethod
    def of_frame(cls, frame: RawFrame, noise: SensorNoise) -> LightSquare:
        """A whole frame.

        Raises:
            ProfileError: the noise describes other planes, or its gain is unknown.
            ValueError: the frame is too small.
        """
        observed = Observed.of_frame(frame, noise, subtract_rows=False)
        offsets = torch.zeros_like(observed.light)
        if bool((observed.row > 0).any()):
            offsets = observed.light - Observed.of_frame(frame, noise, subtract_rows=True, find_defects=False).light
        return cls(observed, offsets, None if frame.cfa.is_mono else WorkingSpace.of_frame(frame, noise))

    def window(self, rows: slice, columns: slice) -> LightSquare:
        """A piece of it, copied, so that the whole can be let go of."""
        part = self.observed.crop(rows, columns)
        return LightSquare(
            Observed(part.planes.clone(), part.cfa), self.offsets[..., rows, columns].clone(), self.space
        )

    @property
    def steady(self) -> Tensor:
        """The light without the estimated row offsets, (1, 1, H, W)."""
        return self.observed.light - self.offsets


@dataclass(frozen=True)
class LightVerdict:
    """Expected squared errors at measured sites, in units of the variance of the noise.

    Attributes:
        teacher: Of the blind-spot network.
        rival: Of the network for mosaics.
        standard_error: Of the difference.
        sites: Judged.
    """

    teacher: float
    rival: float
    standard_error: float
    sites: int

    @property
    def difference(self) -> float:
        """Teacher less rival; negative where the teacher is better."""
        return self.teacher - self.rival

    @property
    def sentence(self) -> str:
        """For people."""
        word = "no clear difference"
        if abs(self.difference) > CONFIDENCE * self.standard_error:
            word = "better" if self.difference < 0 else "worse"
        return (
            f"Expected squared error at measured sites {self.teacher:.4f} of the noise's variance, of the shipped "
            f"network {self.rival:.4f} (standard error of the difference {self.standard_error:.4f}, {self.sites} "
            f"sites): {word}."
        )


def compare_in_light(
    model: BlindSpotModel, rival: MosaicNet, squares: Sequence[LightSquare], *, generator: torch.Generator
) -> LightVerdict:
    """Judge both on the sites that the squares' ``scored`` plane holds out, on at most `MOST_SQUARES` of them.

    Args:
        model: From `teach_by_files`.
        rival: A network that takes mosaics.
        squares: Those that the model was trained on, colour ones.
        generator: Of the probes.

    Raises:
        ValueError: no site is held out.
    """
    differences, sums, sites = [], torch.zeros(2, dtype=torch.float64), 0
    for square in squares[:: -(-len(squares) // MOST_SQUARES)]:
        judged = square.observed.measured & (square.observed.scored == 0)
        scale = square.observed.noise_variance(square.steady)[judged].mean()
        seed = int(torch.randint(2**62, (), generator=generator))
        risks = [
            _risk(estimate, square, seed) / scale
            for estimate in (_by_posterior(model, square), _by_network(rival, square))
        ]
        sums += torch.stack([risk[judged].double().sum() for risk in risks])
        differences.append(_by_block((risks[0] - risks[1]) * judged))
        sites += int(judged.sum())
    if not sites:
        raise ValueError("No site is held out, so there is no verdict. Hide some with `hide_held_out`.")
    means, parts = sums / sites, torch.cat(differences)
    # Sums of blocks, of which many are empty, around what each would have by its share of the sites.
    error = float((parts - parts.mean()).square().sum().sqrt()) / sites
    return LightVerdict(float(means[0]), float(means[1]), error, sites)


def _risk(estimate: Callable[[Tensor], Tensor], square: LightSquare, seed: int) -> Tensor:
    """Stein's estimate of the squared error of every site, (1, 1, H, W)."""
    observed = square.observed
    noise = PixelNoise(observed.gain, observed.dark.sqrt(), torch.zeros(()))
    with torch.no_grad():
        risk = Stein().risk(
            lambda light, _: estimate(light), square.steady, noise, generator=torch.Generator().manual_seed(seed)
        )
    return risk.values


def _by_posterior(model: BlindSpotModel, square: LightSquare) -> Callable[[Tensor], Tensor]:
    def estimate(light: Tensor) -> Tensor:
        return light_posterior(model, square.observed.with_planes(light=light + square.offsets)).mean

    return estimate


def _by_network(network: MosaicNet, square: LightSquare) -> Callable[[Tensor], Tensor]:
    observed, space = square.observed, square.space
    if space is None:
        raise ValueError("A monochrome square cannot be shown to a network that takes mosaics.")
    solve = FastTile(network, space, observed.cfa, next(network.parameters()).device)
    colours = one_hot(observed.cfa, *observed.shape)

    def estimate(light: Tensor) -> Tensor:
        repaired = repair_defects(space.stabilise(light[0, 0], observed.cfa), observed.cfa).mosaic
        values = space.balanced(repaired, observed.cfa)
        clipped = (observed.censored > 0).to(light)
        rgb = solve(torch.stack([values, observed.known[0, 0], clipped[0, 0], light[0, 0]]))
        return (rgb[None] * colours).sum(1, keepdim=True)

    return estimate


def _by_block(values: Tensor) -> Tensor:
    """Sums over areas of `BLOCK` sites a side, flat."""
    return torch.nn.functional.avg_pool2d(values.double(), BLOCK, ceil_mode=True, divisor_override=1).flatten()
