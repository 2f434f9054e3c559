"""Restore a frame with a blind-spot predictor: prediction and measurement combined under the calibrated noise."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from noise_models.frame import RawFrame
from noise_models.sensor import SensorNoise
from physrestore.selfsup.blind_spot import BlindSpotModel
from physrestore.selfsup.blind_spot_data import Observed
from physrestore.selfsup.few_electrons import refine
from physrestore.selfsup.folder import hide_held_out, observe
from physrestore.selfsup.posterior import Evidence, Posterior, colour_posterior, posterior
from physrestore.selfsup.posterior_spread import SpreadCorrection
from physrestore.selfsup.row_posterior import ROBUST_SIGMAS, RowEvidence, row_posterior
from physrestore.selfsup.z_scores import ZInput, ZReport, z_report
from physrestore.tiling import map_tiles

TILE = 480
# Fewer held-out sites than this do not tell the noise law to 5 %.
ENOUGH_SITES = 20_000


@dataclass(frozen=True)
class BlindSpotResult:
    """A restored mosaic and how sure each of its values is.

    Attributes:
        mosaic: (H, W) float32, linear light: black at 0, white at 1. Values below 0 are kept; clipped sites are
            estimates of at least about white.
        std: (H, W) float32: standard deviation of the light given all that was measured.
        predicted: (H, W) float32: the light by the surroundings alone.
        z: Whether prediction and noise law fit the frame.
        numbers: What was done, by name.
        seconds: Wall time.
    """

    mosaic: Tensor
    std: Tensor
    predicted: Tensor
    z: ZReport
    numbers: dict[str, float]
    seconds: float


@dataclass(frozen=True)
class Predicted:
    """A whole frame's prediction, (1, 1, H, W) each.

    Attributes:
        mean: mu.
        variance: v.
        posterior: Given the measurement, where the layout's colours are told together; else None.
    """

    mean: Tensor
    variance: Tensor
    posterior: Posterior | None


def restore_blind_spot(
    frame: RawFrame,
    noise: SensorNoise,
    model: BlindSpotModel,
    *,
    hole: int | None = None,
    few_electrons: bool | None = None,
    correct_spread: bool = True,
    trained_as: int | None = None,
    tile: int = TILE,
    progress: Callable[[float], None] | None = None,
) -> BlindSpotResult:
    """Denoise a mosaic by posterior mean.

    Sites that measured nothing (defects) become the prediction, clipped ones the mean of what they may have been.

    Args:
        frame: Of the kind of sensor the model was trained on.
        noise: Of this camera at this ISO, with the gain known.
        model: From `train_folder`.
        hole: Side of the hole; None: the model's own.
        few_electrons: Whether dark sites, and with heavy tails all that read noise dominates, get the exact law by
            quadrature (layout "mosaic"). None: where the profile has a heavy tail; for Gaussian read noise the closed
            form was as good when measured (within 0.01 dB on frames of 60 electrons at white).
        correct_spread: Whether the predicted variances are corrected by this frame's unseen pixels (layout "mosaic");
            needs a noise law that is right, see the z-report, which is made before.
        trained_as: Place of this frame in the folder that the model was trained on: the z-report then looks only at
            the sites that training left out, if those are enough. None: the frame is new to the model.
        tile: Side of the tiles, about: memory against overhead. It does not change the result.
        progress: Called with the share done, 0..1.

    Raises:
        RestoreError: a frame of another kind of array than the model's.
        ProfileError: the noise describes other planes, or its gain is unknown.
        ValueError: a frame that is too small, an even hole.
    """
    begin = time.perf_counter()
    observed = observe(model.config, frame, noise)
    predicted = predict_frame(model, observed, hole=hole, tile=tile, progress=progress)
    evidence = evidence_of(observed, predicted.mean)
    rows, common = _rows(observed, predicted, evidence)
    offsets = observed.row * rows.offsets(common)
    judged = _judged(observed, trained_as)
    report = z_report(z_input(judged, predicted, offsets))
    if correct_spread and predicted.posterior is None:
        error = evidence.light - predicted.mean - offsets
        correction = SpreadCorrection.fit(error, predicted.variance, evidence.noise, judged.measured)
        predicted = replace(predicted, variance=correction.apply(predicted.variance, evidence.noise))
        rows, common = _rows(observed, predicted, evidence)
        offsets = observed.row * rows.offsets(common)
    result, exact = predicted.posterior, 0.0
    if result is None:
        result = _posterior(predicted, evidence, observed, rows, common)
        if few_electrons or (few_electrons is None and noise.tail.kind != "gaussian"):
            result, exact = refine(
                result,
                frame,
                noise,
                observed,
                mean=predicted.mean,
                variance=predicted.variance,
                evidence=evidence,
                offsets=offsets,
            )
    numbers = {
        "defects": float((observed.known == 0).sum()),
        "clipped_share": float((observed.censored > 0).float().mean()),
        "row_offset_std": float(offsets[..., 0].std()),
        "common_row_error": math.sqrt(common),
        "few_electrons_share": exact,
        "mean_predicted_std": float(predicted.variance.mean().sqrt()),
    }
    return BlindSpotResult(
        mosaic=result.mean[0, 0],
        std=result.variance[0, 0].sqrt(),
        predicted=predicted.mean[0, 0],
        z=report,
        numbers=numbers,
        seconds=time.perf_counter() - begin,
    )


def light_posterior(model: BlindSpotModel, observed: Observed) -> Posterior:
    """What a model makes of a mosaic, by the closed forms: prediction, rows and measurement, (1, 1, H, W) each.

    The core of `restore_blind_spot` without its report and without the exact law of few electrons, for teaching and for
    judging, which call it often.

    Args:
        model: From `train_folder`.
        observed: One frame or a piece of one.
    """
    predicted = predict_frame(model, observed)
    if predicted.posterior is not None:
        return predicted.posterior
    evidence = evidence_of(observed, predicted.mean)
    rows, common = _rows(observed, predicted, evidence)
    error = evidence.light - predicted.mean - observed.row * rows.offsets(common)
    correction = SpreadCorrection.fit(error, predicted.variance, evidence.noise, observed.measured)
    predicted = replace(predicted, variance=correction.apply(predicted.variance, evidence.noise))
    rows, common = _rows(observed, predicted, evidence)
    return _posterior(predicted, evidence, observed, rows, common)


def predict_frame(
    model: BlindSpotModel,
    observed: Observed,
    *,
    hole: int | None = None,
    tile: int = TILE,
    progress: Callable[[float], None] | None = None,
) -> Predicted:
    """Predict a whole frame tile by tile.

    The pooling grids of upright and turned branches are anchored at opposite ends of what they see; padding with
    unknown sites to whole steps makes them the same for every tile.
    """
    align = math.lcm(model.site * model.network.grid, *observed.cfa.period)
    height, width = observed.shape
    padded = F.pad(observed.planes, (0, -width % align, 0, -height % align), mode="replicate")
    whole = Observed(padded, observed.cfa)
    known = F.pad(observed.known, (0, -width % align, 0, -height % align))
    whole = whole.with_planes(known=known, censored=whole.censored * known)
    total, done = whole.planes[0, 0].numel(), 0

    def on_tile(pixels: int) -> None:
        nonlocal done
        done += pixels
        if progress is not None:
            progress(done / total)

    def predict(planes: Tensor) -> Tensor:
        return _predict_piece(model, Observed(planes[None], observed.cfa), hole)

    reach = -(-model.reach(hole) // align) * align
    side = max(1, tile // align) * align
    with torch.no_grad():
        out = map_tiles(predict, whole.planes[0], tile=side, halo=reach, align=align, on_tile=on_tile)
    mean, variance, *rest = out[:, None, None, :height, :width]
    return Predicted(mean, variance, Posterior(*rest) if rest else None)


def _rows(observed: Observed, predicted: Predicted, evidence: Evidence) -> tuple[RowEvidence, float]:
    """What the rows say, and the share of it that is the prediction's."""
    rows = RowEvidence.of(
        evidence.light - predicted.mean,
        predicted.variance + evidence.noise,
        observed.row,
        observed.measured,
        robust_sigmas=ROBUST_SIGMAS,
    ).centred()
    return rows, rows.common_error()


def _judged(observed: Observed, trained_as: int | None) -> Observed:
    """The sites for the z-report: of a frame that was trained on, those held out; all where these are too few.

    A network of some ten thousand weights cannot remember the noise of a million sites, so the fallback is harmless.
    """
    if trained_as is None:
        return observed
    known = hide_held_out(observed, seed=trained_as).scored == 0
    if int((observed.measured & known).sum()) < ENOUGH_SITES:
        return observed
    return observed.with_planes(known=observed.known * known)


def evidence_of(observed: Observed, mean: Tensor) -> Evidence:
    """What every site measured, with the noise at a predicted mean."""
    return Evidence(observed.light, observed.noise_variance(mean), observed.known > 0, observed.censored)


def z_input(observed: Observed, predicted: Predicted, offsets: Tensor) -> ZInput:
    """What the z-report needs of one frame; ``offsets`` are those of the rows, (1, 1, H, W)."""
    raw = observed.light - predicted.mean
    colours = observed.colours
    return ZInput(
        error=(raw - offsets)[0, 0],
        raw_error=raw[0, 0],
        mean=predicted.mean[0, 0],
        variance=predicted.variance[0, 0],
        gain=observed.gain[0, 0],
        dark=observed.dark[0, 0],
        row=observed.row[0, 0],
        sites=observed.measured[0, 0],
        colour=colours[0].argmax(0),
        letters="M" if observed.cfa.is_mono else "RGB",
        period=observed.cfa.period[0],
    )


def _predict_piece(model: BlindSpotModel, piece: Observed, hole: int | None) -> Tensor:
    """Mean and variance of one tile, and with packed planes those of the posterior: (2 | 4, h, w)."""
    here = piece.planes.device
    prediction = model(piece.to(next(model.parameters()).device), hole=hole)
    values = [prediction.mean, prediction.variance]
    if model.config.layout == "packed":
        result = colour_posterior(prediction.mean, prediction.covariance, prediction.evidence)
        values += [result.mean, result.variance]
    return torch.cat([model.unpack(value, piece)[:, 0] for value in values]).to(here)


def _posterior(
    predicted: Predicted, evidence: Evidence, observed: Observed, rows: RowEvidence, common: float
) -> Posterior:
    """Rows where there is row noise; clipped sites by themselves, the offset being noise to them."""
    spread = Evidence(evidence.light, evidence.noise + observed.row.square(), evidence.known, evidence.censored)
    alone = posterior(predicted.mean, predicted.variance, spread)
    if not bool((observed.row > 0).any()):
        return alone
    lines = row_posterior(
        predicted.mean,
        predicted.variance,
        evidence.noise,
        evidence.light,
        observed.row,
        observed.measured,
        evidence=rows,
        common=common,
    )
    clipped = observed.censored != 0
    return Posterior(torch.where(clipped, alone.mean, lines.mean), torch.where(clipped, alone.variance, lines.variance))
