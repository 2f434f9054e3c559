"""Train a blind-spot network on nothing but the noisy frames of a folder, under their calibrated noise."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from noise_models.cfa import pack
from noise_models.frame import RawFrame
from noise_models.sensor import SensorNoise
from physrestore.errors import RestoreError
from physrestore.selfsup.blind_spot import BlindSpotConfig, BlindSpotModel, Prediction
from physrestore.selfsup.blind_spot_crops import Crops, windows
from physrestore.selfsup.blind_spot_data import Observed
from physrestore.selfsup.posterior import Evidence, colour_nll, nll
from physrestore.selfsup.row_posterior import row_nll

# Share of the sites that never enter the loss: they judge the prediction.
HELD_OUT = 0.02
# Sites kept for crops, all frames together: about half a gigabyte. Larger folders are trained on random windows.
SITES_IN_MEMORY = 1 << 24
# Weights are averaged with this memory in steps, at most a tenth of the training.
AVERAGING_STEPS = 100
# The learning rate ends at this share of its start.
LAST_RATE = 0.02
MAX_GRADIENT_NORM = 1.0


@dataclass(frozen=True)
class FolderTraining:
    """How long and on what to train.

    Attributes:
        steps: Updates at most.
        budget_s: Wall time at most; None: steps alone count. What comes first ends the training.
        batch: Crops a step.
        crop: Side of a crop in sites; rounded up to whole periods of the filter array.
        learning_rate: At the start; it falls along half a cosine.

    Raises:
        ValueError: numbers that are not positive.
    """

    steps: int = 2000
    budget_s: float | None = None
    batch: int = 4
    crop: int = 64
    learning_rate: float = 2e-3

    def __post_init__(self) -> None:
        """Check the numbers once."""
        for name, value in vars(self).items():
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive, not {value}.")


Loss = Callable[[Prediction, Observed], Tensor]


def train_folder(
    frames: Sequence[RawFrame],
    noise_of_each: Sequence[SensorNoise],
    *,
    config: BlindSpotConfig,
    training: FolderTraining,
    generator: torch.Generator,
    start: BlindSpotModel | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> BlindSpotModel:
    """Train on noisy frames of one kind of sensor.

    Args:
        frames: At least one; all of one filter array, phases may differ.
        noise_of_each: Of every frame.
        config: What to train. Where a frame has row noise, ``own_row`` must be False in the layout "mosaic".
        training: How long.
        generator: Of weights and crops, on the CPU.
        start: A model to go on with, on its device; it is not changed. Its configuration counts then.
        on_step: Called with the number of steps done and the loss, in nats a site.

    Returns:
        The model with averaged weights, in evaluation mode.

    Raises:
        ValueError: no frames, or not one noise for each.
        RestoreError: frames of another array than the configuration's, or smaller than a crop.
        ProfileError: a noise that describes other planes, or without its gain.
    """
    if not frames or len(frames) != len(noise_of_each):
        raise ValueError(f"Needed is one noise for every frame; {len(frames)} frames, {len(noise_of_each)} noises.")
    model = fresh_model(config, generator=generator) if start is None else _copy(start)
    seen: list[Observed] = []
    for k, (frame, noise) in enumerate(zip(frames, noise_of_each, strict=True)):
        whole = hide_held_out(observe(model.config, frame, noise), seed=k)
        seen += windows(whole, sites=SITES_IN_MEMORY // len(frames), generator=generator)
    return fit(model, seen, loss=blind_spot_loss, training=training, generator=generator, on_step=on_step)


def fresh_model(config: BlindSpotConfig, *, generator: torch.Generator) -> BlindSpotModel:
    """A model with random weights from the generator, whatever torch's global one is doing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        return BlindSpotModel(config)


def observe(config: BlindSpotConfig, frame: RawFrame, noise: SensorNoise) -> Observed:
    """A frame as a predictor of this kind takes it: rows are subtracted first where it cannot model them."""
    return Observed.of_frame(frame, noise, subtract_rows=config.own_row or config.layout == "packed")


def hide_held_out(observed: Observed, *, seed: int) -> Observed:
    """The same with a share of `HELD_OUT` of the sites kept from the loss; the same ones for the same seed and size."""
    draw = torch.rand(1, 1, *observed.shape, generator=torch.Generator().manual_seed(seed))
    return observed.with_planes(scored=(draw >= HELD_OUT).to(observed.planes))


def blind_spot_loss(prediction: Prediction, observed: Observed, *, exact_rows: bool = False) -> Tensor:
    """Mean negative log marginal likelihood of a site under the calibrated noise, in nats.

    Row noise, in the layout "mosaic" (in "packed" it was subtracted): by default every site is judged by its own
    marginal law, the offset being noise like any other. That composite likelihood has its optimum at the same
    prediction as the exact one, in which a row's offset is integrated out once for all its sites; but there an error
    that a whole row of a crop shares weighs as much as that of a single site, and a network hardly learns brightness.

    Args:
        prediction: Of the batch.
        observed: The batch.
        exact_rows: The exact likelihood of rows.
    """
    old = prediction.evidence
    scored = observed.scored
    if prediction.mean.shape[1] > 1:
        scored = pack(scored, observed.cfa)
    known = old.known & (scored > 0)
    count = known.sum().clamp(min=1)
    if prediction.mean.shape[1] > 1:
        evidence = Evidence(old.light, old.noise, known, old.censored)
        return colour_nll(prediction.mean, prediction.covariance, evidence).sum() / count
    alone, rows = known, prediction.mean.new_zeros(())
    if exact_rows:
        measured = known & (old.censored == 0)
        error, total = old.light - prediction.mean, prediction.variance + old.noise
        rows, alone = row_nll(error, total, observed.row, measured).sum(), known & ~measured
    evidence = Evidence(old.light, old.noise + observed.row.square(), alone, old.censored)
    return (rows + nll(prediction.mean, prediction.variance, evidence).sum()) / count


def fit(
    model: BlindSpotModel,
    observed: Sequence[Observed],
    *,
    loss: Loss,
    training: FolderTraining,
    generator: torch.Generator,
    on_step: Callable[[int, float], None] | None = None,
) -> BlindSpotModel:
    """Minimise a loss over random crops; the model given is changed, a copy with averaged weights is returned.

    Args:
        model: To be trained.
        observed: Whole frames, with further planes behind the known ones if the loss wants them.
        loss: Of a batch.
        training: How long.
        generator: Of the crops.
        on_step: Called with the number of steps done and the loss.

    Raises:
        RestoreError: a frame smaller than a crop, or a loss that is not finite.
    """
    draw = Crops(observed, batch=training.batch, crop=training.crop, generator=generator)
    lattices = getattr(model.network.config, "lattices", None)
    optimiser = torch.optim.Adam(model.parameters(), lr=training.learning_rate)
    average, device = _copy(model), next(model.parameters()).device
    begin, step, done = time.monotonic(), 0, 0.0
    while done < 1.0:
        rate = LAST_RATE + (1.0 - LAST_RATE) * 0.5 * (1.0 + math.cos(math.pi * done))
        for group in optimiser.param_groups:
            group["lr"] = training.learning_rate * rate
        batch = draw().to(device)
        # The masked architecture predicts one lattice of sites a step.
        lattice = None if lattices is None else int(torch.randint(lattices, (), generator=generator))
        value = loss(model(batch, lattice=lattice), batch)
        number = float(value.detach())
        if not math.isfinite(number):
            raise RestoreError(f"Training diverged in step {step}: loss {number}. Use a lower learning rate.")
        optimiser.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]  # torch types it not
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRADIENT_NORM)
        optimiser.step()
        step += 1
        memory = min(AVERAGING_STEPS, max(1, step // 10))
        with torch.no_grad():
            for mean, now in zip(average.parameters(), model.parameters(), strict=True):
                mean.lerp_(now, 1.0 / memory)
        if on_step is not None:
            on_step(step, number)
        done = step / training.steps
        if training.budget_s is not None:
            done = max(done, (time.monotonic() - begin) / training.budget_s)
    return average.eval()


def _copy(model: BlindSpotModel) -> BlindSpotModel:
    twin = BlindSpotModel(model.config).to(next(model.parameters()).device)
    twin.load_state_dict(model.state_dict())
    return twin
