"""From raw files to a blind-spot network trained on nothing else, and what it is worth beside a shipped network."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from noise_models.frame import RawFrame
from noise_models.profile import CameraProfile
from noise_models.sensor import SensorNoise
from physrestore.errors import RestoreError
from physrestore.networks.mosaic_net import MosaicNet
from physrestore.output.publish import publish_bytes
from physrestore.selfsup.adapt_files import check_target, named
from physrestore.selfsup.blind_spot import BlindSpotConfig, BlindSpotModel
from physrestore.selfsup.blind_spot_file import save_blind_spot
from physrestore.selfsup.folder import FolderTraining, blind_spot_loss, fit, fresh_model, hide_held_out
from physrestore.selfsup.gathering import Gathered, Square, gather
from physrestore.selfsup.light_gate import LightSquare, LightVerdict, compare_in_light
from physrestore.training.card import Card

# Updates at most; the budget ends most trainings before.
MOST_STEPS = 20_000
# A square of which less than this share was measured (the rest is clipped or defective) teaches nothing.
LEAST_MEASURED = 0.1


@dataclass(frozen=True, eq=False)
class FolderTeacher:
    """A blind-spot network trained on files.

    Attributes:
        model: The network.
        verdict: It beside a shipped network, on sites that it did not learn from; None: there was none to compare with
            (a monochrome or quad-Bayer sensor).
        steps: Updates done; 0: it was given, not trained.
        squares: What it was trained on.
        found: The files.
    """

    model: BlindSpotModel
    verdict: LightVerdict | None
    steps: int
    squares: tuple[LightSquare, ...]
    found: Gathered[LightSquare]


def teach_by_files(
    files: Sequence[Path],
    *,
    training: FolderTraining | None,
    rival: MosaicNet | None,
    config: BlindSpotConfig | None = None,
    start: BlindSpotModel | None = None,
    profile: CameraProfile | None = None,
    profile_folder: Path | None = None,
    device: torch.device | str = "cpu",
    seed: int = 0,
    on_file: Callable[[Path], None] | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> FolderTeacher:
    """Read files, find their noise as `restore` does, and train a blind-spot network on them.

    Files may differ in everything but the kind of their colour filter array; see `physrestore.selfsup.gathering`.

    Args:
        files: Raw files, monochrome ones too.
        training: How long; None: not at all, the start is judged only.
        rival: The network to compare with; None: none.
        config: Of a new network; None: the default for the files' colours. Not together with ``start``.
        start: A network to go on with; it is not changed.
        profile: Of the camera; None: as `choose_noise` finds it.
        profile_folder: Where it looks.
        device: Where to train.
        seed: Of everything that is drawn.
        on_file: Called before every file.
        on_step: Called with the number of steps done and the loss, in nats a site.

    Raises:
        TrainingError: no file can be learned from.
        RestoreError: files of another array than the start's, or a training that diverges.
        ValueError: a configuration in which row noise is taken for the scene.
    """
    generator = torch.Generator().manual_seed(seed)
    found = gather(
        files,
        light_squares,
        generator=generator,
        profile=profile,
        profile_folder=profile_folder,
        monochrome=True,
        on_file=on_file,
    )
    parts = tuple(
        replace(piece, observed=hide_held_out(piece.observed, seed=seed + k)) for k, piece in enumerate(found.pieces)
    )
    if start is None:
        config = config or BlindSpotConfig(colours=1 if found.cfa.is_mono else 3)
        start = fresh_model(config, generator=generator)
    if start.config.own_row or start.config.layout != "mosaic":
        raise ValueError(
            f"Files may have row noise: needed is own_row=False in the layout 'mosaic', not {start.config}."
        )
    done = 0

    def count(step: int, loss: float) -> None:
        nonlocal done
        done = step
        if on_step is not None:
            on_step(step, loss)

    model = copied(start).to(device).eval()
    if training is not None:
        model = fit(
            model,
            [part.observed for part in parts],
            loss=blind_spot_loss,
            training=replace(training, crop=_crop(training.crop, parts)),
            generator=generator,
            on_step=count,
        )
    knows = found.cfa.is_bayer or found.cfa.is_xtrans  # what mosaic networks learned
    verdict = compare_in_light(model, rival, parts, generator=generator) if rival is not None and knows else None
    return FolderTeacher(model, verdict, done, parts, found)


def light_squares(frame: RawFrame, noise: SensorNoise, places: Sequence[Square]) -> list[LightSquare]:
    """Squares of a frame in linear light, with the frame's own levels and noise; for `gather`.

    Args:
        frame: Any array.
        noise: Its noise, with the gain known.
        places: Of the squares.

    Raises:
        ProfileError: the noise describes other planes, or its gain is unknown.
        RestoreError: squares in which hardly anything was measured.
    """
    whole = LightSquare.of_frame(frame, noise)
    pieces = [whole.window(place.rows, place.columns) for place in places]
    good = [piece for piece in pieces if float(piece.observed.measured.float().mean()) >= LEAST_MEASURED]
    if not good:
        raise RestoreError("It is clipped nearly everywhere: there is nothing to learn from.")
    return good


def write_teacher(path: Path, teacher: FolderTeacher, *, licence: str, seed: int, overwrite: bool = False) -> None:
    """Write a blind-spot network and its card; the weights come last.

    Args:
        path: Ends in ``.safetensors``.
        teacher: Of `teach_by_files`.
        licence: Of the weights.
        seed: As given there.
        overwrite: Replace files that exist.

    Raises:
        OutputExists: the file exists and ``overwrite`` is False.
        TrainingError: another ending.
    """
    check_target(path, overwrite=overwrite)
    quality = "Not compared." if teacher.verdict is None else teacher.verdict.sentence
    config = teacher.model.config
    card = Card(
        title=path.stem,
        purpose="A blind-spot network, trained from nothing on the noisy raw files of one photographer; it restores "
        "mosaics, with an uncertainty",
        noise_range="that of the files it was trained on",
        data=f"{named(teacher.found.used)}; no clean picture.",
        recipe={"steps": teacher.steps, "seed": seed, "array": teacher.found.cfa.name, **vars(config)},
        quality=quality,
        limits=("It knows only what those files show: other subjects and far other noise are guesses.",),
        licence=licence,
    )
    publish_bytes(path.with_suffix(".card.md"), card.markdown().encode(), overwrite=True)
    save_blind_spot(path, teacher.model, about={"purpose": card.purpose, "licence": licence, "quality": quality})


def copied(model: BlindSpotModel) -> BlindSpotModel:
    """A copy that may be changed."""
    twin = BlindSpotModel(model.config)
    twin.load_state_dict(model.state_dict())
    return twin


def _crop(wanted: int, parts: Sequence[LightSquare]) -> int:
    """The crop that was asked for, or the largest for which the smallest square has room."""
    observed = [part.observed for part in parts]
    step = math.lcm(2, observed[0].cfa.period[0])
    room = min(min(one.shape) for one in observed) - step
    return min(wanted, room // step * step)
