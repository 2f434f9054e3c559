"""Does the assumed noise fit this photo? Two witnesses, each of whom errs to one side only.

A network that is asked for sites hidden from it errs by ``noise + its own error``: what it sees can only be too high,
so it convicts a law that claims *more* noise. The statistics of the photo itself (`estimate_from_frame`) refuse photos
that are texture everywhere; where they speak, they bound the gain from both sides.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from noise_models.calibration.photo.single_photo import estimate_from_frame
from noise_models.errors import CalibrationError
from noise_models.frame import RawFrame
from noise_models.sensor import SensorNoise
from physrestore.errors import RestoreError
from physrestore.fast.engine import choose_engine
from physrestore.fast.restore import ALIGN
from physrestore.fast.tile import FastTile, error_law
from physrestore.networks.mosaic_net import MosaicNet
from physrestore.pnp.expected_error import error_std, in_light
from physrestore.pnp.joint import Measured
from physrestore.pnp.prepare import Prepared
from physrestore.selfsup.z_scores import ZInput, ZReport, z_report
from physrestore.working_space import one_hot

# Side of the part that is looked at: a megapixel is plenty, and one pass of it is quick.
SIDE = 21 * ALIGN
# Gains that differ by less are no evidence: profiles of two bodies do, and 25 % cost less than 0.3 dB.
DISAGREEMENT = 1.25
# A share of the assumed variance below this, and by so many standard errors below 1, is no error of calibration.
LEAST_BOUND, SIGMAS = 0.85, 4.0
ADVICE = "Check the ISO and whether the profile is of this camera, or leave --profile at auto."
# One site in so many is hidden: they hardly ever touch.
HIDDEN_SHARE = 1.0 / 24.0
# A hidden site is shown as the mean of the sites of its colour within this distance: X-Trans has 8 or more there.
REACH = 3


@dataclass(frozen=True)
class NoiseCheck:
    """What hidden sites say about the assumed noise.

    Attributes:
        report: Statistics of the hidden sites.
        numbers: Seen over assumed, as far as it could be told.
        notes: What does not fit, one sentence each; empty if all does.
    """

    report: ZReport
    numbers: dict[str, float]
    notes: tuple[str, ...]


def check_noise(
    frame: RawFrame,
    noise: SensorNoise,
    ready: Prepared,
    network: nn.Module,
    *,
    generator: torch.Generator,
    device: torch.device | str = "cpu",
) -> NoiseCheck:
    """Ask both witnesses.

    Args:
        frame: Bayer, quad-Bayer or X-Trans.
        noise: The assumed noise.
        ready: The frame, prepared with that noise.
        network: A `MosaicNet`.
        generator: Hides.
        device: Where to compute.

    Raises:
        RestoreError: another network.
        ValueError: nothing to be judged: all is clipped.
    """
    if not isinstance(network, MosaicNet):
        raise RestoreError(f"Checking the noise needs a MosaicNet, not {type(network).__name__}.")
    engine, space = choose_engine(device), ready.space
    top, left = (max(0, (size - SIDE) // 2) // ALIGN * ALIGN for size in frame.shape)
    planes = ready.planes[:, top : top + SIDE, left : left + SIDE]
    colours = one_hot(frame.cfa, *planes.shape[-2:])[0]
    usable = (planes[1] > 0) & (planes[2] == 0)
    hidden = usable & (torch.rand(usable.shape, generator=generator) < HIDDEN_SHARE)
    shown = planes.clone()
    shown[0] = torch.where(hidden, _guess(planes[0], colours, usable & ~hidden), planes[0])
    shown[1] = torch.where(hidden, 0.0, planes[1])
    v = FastTile(engine.prepare(network), space, frame.cfa, engine.device).values(shown)

    def of_sites(values: Tensor) -> Tensor:
        return (values * colours).sum(0)

    seen = Measured(shown[0][None, None], shown[1] > 0, shown[2] > 0, space.scale, frame.cfa)
    expected = in_light(error_std(v, seen, error_law(frame.cfa)), v, space)
    mean = of_sites(space.light(v))
    error = of_sites(space.light(planes[0].expand(3, -1, -1))) - mean
    report = z_report(
        ZInput(
            error=error,
            raw_error=error,
            mean=mean,
            variance=of_sites(expected).square(),
            gain=of_sites(space.gain.reshape(3, 1, 1)),
            dark=of_sites(space.dark_noise.square().reshape(3, 1, 1)),
            row=torch.zeros_like(mean),
            sites=hidden,
            colour=colours.argmax(0),
            letters="RGB",
            period=frame.cfa.period[0],
        )
    )
    bound = report.bound
    numbers, notes = {"noise_variance_ratio_at_most": bound.value}, []
    if bound.value < LEAST_BOUND and bound.value + SIGMAS * bound.standard_error < 1.0:
        notes.append(
            f"Hidden sites err less than the assumed noise allows: its variance is at most {bound.value:.2f} times the "
            f"assumed one (standard error {bound.standard_error:.2f}). {ADVICE}"
        )
    ratio = _of_photo(frame, noise)
    if ratio is not None:
        low, value, high = ratio
        numbers["gain_ratio_of_photo"] = value
        if low > DISAGREEMENT or high < 1.0 / DISAGREEMENT:
            notes.append(
                f"The photo itself shows a gain K of {value:.2f} times the assumed one (95 % interval {low:.2f} to "
                f"{high:.2f}). {ADVICE}"
            )
    return NoiseCheck(report, numbers, tuple(notes))


def _of_photo(frame: RawFrame, noise: SensorNoise) -> tuple[float, float, float] | None:
    """Gain seen in the photo over the assumed one, with the ends of its interval; None: the photo does not tell."""
    try:
        seen = estimate_from_frame(frame)
    except CalibrationError:
        return None
    ratios = []
    for name, plane in noise.planes.items():
        gain = seen.noise.planes[name].gain
        if plane.gain is not None and gain is not None:
            ratios.append([value / plane.gain.value for value in (gain.interval()[0], gain.value, gain.interval()[1])])
    if not ratios or seen.trust == "poor":
        return None
    low, value, high = torch.tensor(ratios).mean(0).tolist()
    return low, value, high


def _guess(values: Tensor, colours: Tensor, known: Tensor) -> Tensor:
    """Mean of the known sites of every site's own colour within `REACH`."""
    kernel = torch.ones(3, 1, 2 * REACH + 1, 2 * REACH + 1)
    weight = (colours * known)[None]
    sums = F.conv2d(weight * values, kernel, padding=REACH, groups=3)
    counts = F.conv2d(weight, kernel, padding=REACH, groups=3)
    return ((sums / counts.clamp(min=1.0))[0] * colours).sum(0)
