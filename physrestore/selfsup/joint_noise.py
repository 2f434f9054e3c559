"""Without a profile: the noise from the photos themselves, and from what a blind spot trained on them cannot predict.

Two estimates, one kind of error. A single photo shows ``noise + texture``, an unseen pixel's squared error
``noise + error of the prediction``: both can only be too high. So the lower one is nearer, and the two are used in
turn: estimate from the photos, train under it, lower it to what smooth unseen pixels show, train on. What neither can
tell is by how much the lower of the two is still too high; the verdict says how well they agree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from noise_models.calibration.photo.single_photo import NotIdentifiable, PhotoEstimate, estimate_from_frame
from noise_models.errors import CalibrationError
from noise_models.frame import RawFrame
from noise_models.sensor import QUANTISATION_VARIANCE_DN2, Estimate, PlaneNoise, SensorNoise
from physrestore.selfsup.blind_spot import BlindSpotConfig, BlindSpotModel
from physrestore.selfsup.blind_spot_restore import restore_blind_spot
from physrestore.selfsup.folder import FolderTraining, train_folder
from physrestore.selfsup.z_scores import Ratio

Verdict = Literal["confirmed", "lowered", "bounded"]

# Estimates this close, as a ratio, count as one.
AGREEMENT = (0.85, 1.35)
# Reads below this share of the bound are not trusted: rounding and clipping at black make dark variances small.
LEAST_SHARE = 0.05


@dataclass(frozen=True)
class JointEstimate:
    """Noise and network of a folder without a profile.

    Attributes:
        noise: Origin "estimated".
        model: Trained under it.
        verdict: "confirmed": the photo's estimate, and unseen pixels agree; "lowered": unseen pixels err less than the
            photo's estimate, which texture had raised; "bounded": no photo determines its noise, values are upper
            bounds.
        reasons: For the user, one sentence each.
        gain_ratios: Gain seen by unseen pixels over the one that was trained under, of every round; None: not told.
    """

    noise: SensorNoise
    model: BlindSpotModel
    verdict: Verdict
    reasons: tuple[str, ...]
    gain_ratios: tuple[float | None, ...]


def estimate_jointly(
    frames: Sequence[RawFrame],
    *,
    config: BlindSpotConfig,
    training: FolderTraining,
    generator: torch.Generator,
    rounds: int = 2,
) -> JointEstimate:
    """Estimate the noise of a folder and train on it, in turn.

    Args:
        frames: Of one camera at one ISO.
        config: Of the network.
        training: Of every round.
        generator: Of weights and crops.
        rounds: How often, at least 1.

    Raises:
        ValueError: no frames, or no rounds.
        CalibrationError: no frame bounds its noise: black, clipped or too small.
        RestoreError: frames of several kinds of array, or smaller than a crop.
    """
    if not frames or rounds < 1:
        raise ValueError(f"Needed are frames and at least one round, not {len(frames)} frames and {rounds} rounds.")
    noise, identifiable, reasons = _from_photos(frames)
    model, ratios, lowered = None, [], False
    for _ in range(rounds):
        model = train_folder(
            frames, [noise] * len(frames), config=config, training=training, generator=generator, start=model
        )
        gain, dark = _seen(frames, noise, model)
        ratios.append(None if gain is None else gain.value)
        lower_gain, lower_dark = (ratio is not None and ratio.value < AGREEMENT[0] for ratio in (gain, dark))
        if lower_gain or lower_dark:
            lowered = True
            noise = rescaled(noise, gain=gain if lower_gain else None, dark=dark if lower_dark else None)
    assert model is not None
    last = ratios[-1]
    if lowered:
        reasons += ("Unseen pixels err less than the first estimate allows; it was lowered to what they show.",)
    if last is not None and last > AGREEMENT[1]:
        doubt = (
            f"Unseen pixels vary {last:.2f} times as much as the estimate says: it is too low, or the network is not "
            "trained far enough to confirm it."
        )
        reasons += (doubt,)
    verdict: Verdict = "bounded" if not identifiable else "lowered" if lowered else "confirmed"
    return JointEstimate(noise, model, verdict, reasons, tuple(ratios))


def rescaled(noise: SensorNoise, *, gain: Ratio | None, dark: Ratio | None) -> SensorNoise:
    """The noise with gain and dark variance multiplied by what was seen; None keeps a quantity."""
    method = "unseen pixels of a blind-spot network"

    def plane(old: PlaneNoise) -> PlaneNoise:
        changes = {}
        if gain is not None and old.gain is not None:
            scale = max(gain.value, LEAST_SHARE)
            error = old.gain.value * gain.standard_error
            changes["gain"] = Estimate(value=old.gain.value * scale, standard_error=error, method=method)
        if dark is not None:
            whole = old.read_noise_dn.value**2 + QUANTISATION_VARIANCE_DN2
            least = LEAST_SHARE * old.read_noise_dn.value**2
            variance = max(whole * dark.value - QUANTISATION_VARIANCE_DN2, least)
            std = math.sqrt(variance)
            error = whole * dark.standard_error / (2.0 * std)
            changes["read_noise_dn"] = Estimate(value=std, standard_error=error, method=method)
        return old.model_copy(update=changes)

    return noise.model_copy(update={"planes": {name: plane(own) for name, own in noise.planes.items()}})


def _from_photos(frames: Sequence[RawFrame]) -> tuple[SensorNoise, bool, tuple[str, ...]]:
    """The best single-photo estimate, or the lowest upper bounds; whether it is an estimate; and what limits it."""
    best: PhotoEstimate | None = None
    refusals: list[NotIdentifiable] = []
    for frame in frames:
        try:
            found = estimate_from_frame(frame)
        except NotIdentifiable as refusal:
            refusals.append(refusal)
            continue
        if best is None or _gain_error(found.noise) < _gain_error(best.noise):
            best = found
    if best is not None:
        return best.noise, True, best.reasons
    bounds = [r for r in refusals if r.gain_upper is not None and r.read_noise_upper_dn is not None]
    if not bounds:
        raise CalibrationError(
            "No frame of the folder bounds its noise: they are black, clipped or too small. "
            f"The first says: {refusals[0]}"
        )
    lowest = min(bounds, key=lambda r: r.gain_upper or math.inf)
    assert lowest.gain_upper is not None
    read = min(r.read_noise_upper_dn or math.inf for r in bounds)
    return _bounded(frames[0], lowest.gain_upper, read), False, lowest.reasons


def _bounded(frame: RawFrame, gain: float, read: float) -> SensorNoise:
    method = "upper bound: the photos do not determine it"
    planes = {}
    for name in frame.cfa.plane_names:
        i, j = frame.cfa.sites(name)[0]
        planes[name] = PlaneNoise(
            gain=Estimate(value=gain, method=method),
            read_noise_dn=Estimate(value=read, method=method),
            black_level_dn=Estimate(value=float(frame.black_level[i, j]), method="stated by the file"),
        )
    nothing = Estimate(value=0.0, method="not told from photos that do not determine their noise")
    return SensorNoise(iso=frame.shot.iso, planes=planes, row_noise_dn=nothing, origin="estimated")


def _gain_error(noise: SensorNoise) -> float:
    errors = [
        math.inf if plane.gain is None or plane.gain.standard_error is None else plane.gain.standard_error
        for plane in noise.planes.values()
    ]
    return max(errors)


def _seen(frames: Sequence[RawFrame], noise: SensorNoise, model: BlindSpotModel) -> tuple[Ratio | None, Ratio | None]:
    """Upper bounds of gain and dark variance over the assumed ones, all frames together."""
    reports = [
        restore_blind_spot(frame, noise, model, few_electrons=False, trained_as=k).z for k, frame in enumerate(frames)
    ]
    return pooled([r.gain for r in reports]), pooled([r.dark for r in reports])


def pooled(ratios: Sequence[Ratio | None]) -> Ratio | None:
    """Inverse-variance mean of those that are told; None if none is.

    >>> pooled([Ratio(1.0, 0.1), None, Ratio(2.0, 0.1)]).value
    1.5
    """
    told = [r for r in ratios if r is not None and r.standard_error > 0]
    if not told:
        return None
    weights = [r.standard_error**-2 for r in told]
    total = sum(weights)
    value = sum(w * r.value for w, r in zip(weights, told, strict=True)) / total
    return Ratio(value, total**-0.5)
