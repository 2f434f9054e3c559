"""From raw files to a network adapted to them: one photo, a burst, or a folder, none of them clean."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from noise_models.errors import NoiseModelError
from noise_models.frame import RawFrame
from noise_models.profile import CameraProfile
from noise_models.rawfile import Decoder, read_raw
from noise_models.sensor import SensorNoise
from physrestore.errors import OutputExists, PhysrestoreError, RestoreError, TrainingError
from physrestore.networks.store import save_network
from physrestore.noise_choice import choose_noise
from physrestore.output.publish import publish_bytes
from physrestore.selfsup.adapt import Adapted, AdaptSettings, adapt
from physrestore.selfsup.crops import NoisyImage
from physrestore.selfsup.frames import mosaic_task, noisy_frame
from physrestore.selfsup.tasks import Demosaicking
from physrestore.training.card import Card

# Of every photo this many squares are kept in memory: a folder of 24-megapixel photos would not fit whole.
SQUARES, SIDE = 6, 480
# Corners of squares are multiples of it: in phase with every colour filter array.
ALIGN = 48


@dataclass(frozen=True)
class FolderAdaptation:
    """A network adapted to files.

    Attributes:
        adapted: The network and the verdict on it.
        used: Files that were learned from.
        refused: Files that could not be, with the reason.
    """

    adapted: Adapted
    used: tuple[Path, ...]
    refused: dict[Path, str]


def adapt_to_files(
    files: Sequence[Path],
    *,
    network: nn.Module,
    profile: CameraProfile | None = None,
    profile_folder: Path | None = None,
    settings: AdaptSettings | None = None,
    seed: int = 0,
    on_file: Callable[[Path], None] | None = None,
) -> FolderAdaptation:
    """Read files, find their noise as `restore` does, and adapt a copy of a network to them.

    A file that cannot be read, whose noise is not known, or whose array differs from the first one's costs only itself.

    Args:
        files: Raw files of one kind of colour filter array.
        network: A `MosaicNet` to start from; never changed.
        profile: Of the camera; None: as `choose_noise` finds it.
        profile_folder: Where it looks.
        settings: Of the adaptation.
        seed: Of everything that is drawn.
        on_file: Called before every file.

    Raises:
        TrainingError: no file can be learned from.
        ValueError: pictures that are too small or too few for a verdict.
    """
    generator = torch.Generator().manual_seed(seed)
    images: list[NoisyImage] = []
    used, refused = [], {}
    first: RawFrame | None = None
    task: Demosaicking | None = None
    with Decoder() as decoder:
        for path in files:
            if on_file is not None:
                on_file(path)
            try:
                frame = read_raw(path, decoder=decoder)
                noise = choose_noise(frame, given=profile, folder=profile_folder).noise
                images += _squares(frame, noise, first or frame, generator)
                if task is None:
                    first, task = frame, mosaic_task(frame, noise)
                used.append(path)
            except (NoiseModelError, PhysrestoreError, OSError) as error:
                refused[path] = str(error)
    if task is None:
        reasons = "; ".join(f"{path.name}: {reason}" for path, reason in list(refused.items())[:3])
        raise TrainingError(f"None of {len(files)} files can be learned from ({reasons}). Name other raw files.")
    adapted = adapt(network, images, generator=generator, settings=settings, task=task)
    return FolderAdaptation(adapted, tuple(used), refused)


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
    if path.suffix != ".safetensors":
        raise TrainingError(f"Weights end in .safetensors; {path.name!r} does not.")
    if path.exists() and not overwrite:
        raise OutputExists(path, "exists. Choose another name, or ask to overwrite it.")
    verdict = result.adapted.verdict
    quality = (
        f"On {verdict.blocks} squares that it did not learn from, the expected squared error went from "
        f"{verdict.before:.4f} to {verdict.after:.4f} of the noise's variance (standard error of the difference "
        f"{verdict.standard_error:.4f}): {'a gain' if result.adapted.accepted else 'no clear gain'}."
    )
    names = ", ".join(used.name for used in result.used[:5]) + (", ..." if len(result.used) > 5 else "")
    card = Card(
        title=path.stem,
        purpose=f"{start}, adapted without clean pictures to raw files of one photographer",
        noise_range="that of the network it started from",
        data=f"{len(result.used)} noisy raw files ({names}); no clean picture.",
        recipe={"started from": start, "steps": result.adapted.best_step, "seed": seed},
        quality=quality,
        limits=("It may be worse than its start on photos of another kind than those.",),
        licence=licence,
    )
    digest = hashlib.sha256("".join(used.name for used in result.used).encode()).hexdigest()[:12]
    about = {"purpose": card.purpose, "licence": licence, "adapted_to": digest, "quality": quality}
    publish_bytes(path.with_suffix(".card.md"), card.markdown().encode(), overwrite=True)
    save_network(path, result.adapted.best, about=about)


def _squares(frame: RawFrame, noise: SensorNoise, first: RawFrame, generator: torch.Generator) -> list[NoisyImage]:
    """Some squares of a frame, in phase with the first frame's array."""
    if frame.cfa.is_mono or frame.cfa != first.cfa:
        raise RestoreError(
            f"The array is {frame.cfa.name}; the first file's is {first.cfa.name}, and colours are needed."
        )
    image = noisy_frame(frame, noise)
    height, width = frame.shape
    side = min(SIDE, *(size // ALIGN * ALIGN for size in (height, width)))
    if side < ALIGN:
        raise RestoreError(f"A frame of {frame.shape} is too small: needed are {ALIGN}x{ALIGN} pixels.")
    corners = {
        tuple(
            int(torch.randint((size - side) // ALIGN + 1, (), generator=generator)) * ALIGN for size in (height, width)
        )
        for _ in range(SQUARES)
    }
    return [_window(image, top, left, side) for top, left in sorted(corners)]


def _window(image: NoisyImage, top: int, left: int, side: int) -> NoisyImage:
    rows, columns = slice(top, top + side), slice(left, left + side)
    weights = None if image.weights is None else image.weights[..., rows, columns].clone()
    return NoisyImage(image.values[..., rows, columns].clone(), image.noise.window(rows, columns), image.cfa, weights)
