"""From raw files to a network adapted to them: one photo, a burst, or a folder, none of them clean."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from noise_models.frame import RawFrame
from noise_models.profile import CameraProfile
from noise_models.sensor import SensorNoise
from physrestore.errors import OutputExists, TrainingError
from physrestore.networks.store import save_network
from physrestore.output.publish import publish_bytes
from physrestore.selfsup.adapt import Adapted, AdaptSettings, adapt
from physrestore.selfsup.crops import NoisyImage
from physrestore.selfsup.frames import noisy_frame
from physrestore.selfsup.gathering import NAMED, Square, gather
from physrestore.selfsup.held_out_gate import Verdict
from physrestore.selfsup.tasks import Demosaicking
from physrestore.training.card import Card


@dataclass(frozen=True)
class FolderAdaptation:
    """A network adapted to files.

    Attributes:
        adapted: The network and the verdict on it.
        used: Files that were learned from.
        refused: Files that could not be, with the reason.
        passed_over: Files that were not opened, the others being enough.
    """

    adapted: Adapted
    used: tuple[Path, ...]
    refused: dict[Path, str]
    passed_over: tuple[Path, ...] = ()


def adapt_to_files(
    files: Sequence[Path],
    *,
    network: nn.Module,
    profile: CameraProfile | None = None,
    profile_folder: Path | None = None,
    settings: AdaptSettings | None = None,
    device: torch.device | str = "cpu",
    seed: int = 0,
    on_file: Callable[[Path], None] | None = None,
) -> FolderAdaptation:
    """Read files, find their noise as `restore` does, and adapt a copy of a network to them.

    Files may differ in everything but the kind of their colour filter array; see `physrestore.selfsup.gathering`.

    Args:
        files: Raw files.
        network: A `MosaicNet` to start from; never changed.
        profile: Of the camera; None: as `choose_noise` finds it.
        profile_folder: Where it looks.
        settings: Of the adaptation.
        device: Where to learn; the result is there.
        seed: Of everything that is drawn.
        on_file: Called before every file.

    Raises:
        TrainingError: no file can be learned from, or they are too small or too few for a verdict.
    """
    generator = torch.Generator().manual_seed(seed)
    found = gather(
        files, noisy_squares, generator=generator, profile=profile, profile_folder=profile_folder, on_file=on_file
    )
    start, pieces = copy.deepcopy(network).to(device), [piece.to(device) for piece in found.pieces]
    try:
        adapted = adapt(start, pieces, generator=generator, settings=settings, task=Demosaicking(found.cfa))
    except ValueError as error:
        raise TrainingError(str(error)) from error
    return FolderAdaptation(adapted, found.used, found.refused, found.passed_over)


def noisy_squares(frame: RawFrame, noise: SensorNoise, places: Sequence[Square]) -> list[NoisyImage]:
    """Squares of a frame in its own working space; for `gather`.

    Args:
        frame: Bayer or X-Trans.
        noise: Its noise, with the gain known.
        places: Of the squares.

    Raises:
        ProfileError: the noise describes other planes, or its gain is unknown.
        RestoreError: values that are not finite.
    """
    image = noisy_frame(frame, noise)
    return [image.window(place.rows, place.columns) for place in places]


def write_adapted(
    path: Path, result: FolderAdaptation, *, start: str, licence: str, seed: int, overwrite: bool = False
) -> None:
    """Write the best copy, accepted or not, and its card; the weights come last.

    Args:
        path: Ends in ``.safetensors``.
        result: Of `adapt_to_files`.
        start: Name of the network that it started from.
        licence: Of the weights.
        seed: As given there.
        overwrite: Replace files that exist.

    Raises:
        OutputExists: the file exists and ``overwrite`` is False.
        TrainingError: another ending.
    """
    write_judged(
        path,
        result.adapted.best,
        verdict=result.adapted.verdict,
        used=result.used,
        purpose=f"{start}, adapted without clean pictures to raw files of one photographer",
        recipe={"started from": start, "steps": result.adapted.best_step, "seed": seed},
        licence=licence,
        overwrite=overwrite,
    )


def write_judged(
    path: Path,
    network: nn.Module,
    *,
    verdict: Verdict,
    used: Sequence[Path],
    purpose: str,
    recipe: Mapping[str, object],
    licence: str,
    overwrite: bool = False,
) -> None:
    """Write a network that was judged against the one it started from, and its card; the weights come last.

    Args:
        path: Ends in ``.safetensors``.
        network: A `MosaicNet`.
        verdict: On it.
        used: Files that it learned from.
        purpose: One sentence, for the card.
        recipe: For the card.
        licence: Of the weights.
        overwrite: Replace files that exist.

    Raises:
        OutputExists: the file exists and ``overwrite`` is False.
        TrainingError: another ending.
    """
    check_target(path, overwrite=overwrite)
    quality = (
        f"On {verdict.blocks} squares that it did not learn from, the expected squared error of measured colours went "
        f"from {verdict.before:.4f} to {verdict.after:.4f} of the noise's variance; over all colours, changes of those "
        f"that were not measured counted as errors, by {verdict.difference:+.4f} (standard error "
        f"{verdict.standard_error:.4f}): {'a gain' if verdict.better else 'no clear gain'}."
    )
    card = Card(
        title=path.stem,
        purpose=purpose,
        noise_range="that of the network it started from",
        data=f"{named(used)}; no clean picture.",
        recipe=recipe,
        quality=quality,
        limits=("It may be worse than its start on photos of another kind than those.",),
        licence=licence,
    )
    digest = hashlib.sha256("".join(one.name for one in used).encode()).hexdigest()[:12]
    about = {"purpose": purpose, "licence": licence, "adapted_to": digest, "quality": quality}
    publish_bytes(path.with_suffix(".card.md"), card.markdown().encode(), overwrite=True)
    save_network(path, network, about=about)


def check_target(path: Path, *, overwrite: bool) -> None:
    """Refuse a name for weights, before the work.

    Raises:
        OutputExists: the file exists and ``overwrite`` is False.
        TrainingError: another ending.
    """
    if path.suffix != ".safetensors":
        raise TrainingError(f"Weights end in .safetensors; {path.name!r} does not.")
    if path.exists() and not overwrite:
        raise OutputExists(path, "exists. Choose another name, or ask to overwrite it.")


def named(files: Sequence[Path]) -> str:
    """How many raw files, and the first of their names.

    >>> named([Path("photos/1.dng"), Path("photos/2.dng")])
    '2 noisy raw files (1.dng, 2.dng)'
    """
    names = ", ".join(one.name for one in files[:NAMED]) + (", ..." if len(files) > NAMED else "")
    return f"{len(files)} noisy raw files ({names})"
