"""A restoration becomes files: the picture, its preview, and in both the record of how they were made."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray

from noise_models.frame import RawFrame, tile_to
from physrestore.demosaic import demosaic
from physrestore.output.arrays import write_npz
from physrestore.output.dng import write_cfa_dng, write_linear_dng
from physrestore.output.error_map import write_error_map, write_error_picture
from physrestore.output.metadata import MetadataCopy
from physrestore.output.preview import before_after_png
from physrestore.output.record import read_history
from physrestore.output.tiff import write_linear_tiff
from physrestore.pipeline import Restoration


class OutputKind(StrEnum):
    """What is written. The value is the word on the command line."""

    CFA_DNG = "cfa-dng"
    LINEAR_DNG = "linear-dng"
    TIFF = "tiff"
    NPZ = "npz"

    @property
    def extension(self) -> str:
        """File name ending."""
        return {OutputKind.TIFF: ".tif", OutputKind.NPZ: ".npz"}.get(self, ".dng")


class _About(TypedDict):
    """What every format is told alike."""

    history: str
    metadata_from: Path | None
    overwrite: bool
    protect: tuple[Path, ...]


def uncertainty_paths(target: Path) -> tuple[Path, Path]:
    """Where the map of expected errors of a result goes: numbers, and a picture of them."""
    return target.with_name(f"{target.stem}_uncertainty.npz"), target.with_name(f"{target.stem}_uncertainty.png")


def preview_path(target: Path) -> Path:
    """Where the before/after picture of a result goes."""
    return target.with_name(f"{target.stem}_preview.png")


def shown_by(kind: OutputKind, result: Restoration, *, preview: bool = False) -> Restoration:
    """A restoration without what `write_result` would not write: a waiting mosaic of 24 MP without 288 MB of colours.

    Args:
        kind: As in `write_result`, like ``preview``.
        result: All of it.
        preview: See ``kind``.
    """
    return result if preview or kind is not OutputKind.CFA_DNG else replace(result, rgb=None)


def write_result(
    target: Path,
    frame: RawFrame,
    result: Restoration,
    *,
    kind: OutputKind,
    record: Mapping[str, str | float | bool | None],
    preview: bool = False,
    overwrite: bool = False,
    protect: Iterable[Path] = (),
) -> MetadataCopy | None:
    """Write a restoration; the picture comes last, so that its presence means that all is there.

    Its uncertainty, where it has one, goes to `uncertainty_paths`.

    Args:
        target: The picture. Its folder is made if missing.
        frame: The source, for levels, colours and metadata.
        result: What to write.
        kind: Format.
        record: How it was made; `read_record` gives it back.
        preview: Also write a before/after PNG at `preview_path`.
        overwrite: Replace results that exist.
        protect: Originals that must never be written to, whatever path leads to them.

    Returns:
        What became of the source's metadata; None for an npz, which has no place for them.

    Raises:
        OutputExists: the target exists and ``overwrite`` is false.
        UnsafeOutput: the target is an original, by name or by link.
        WriteError: the disk is full or the folder cannot be written.
    """
    protect = tuple(protect)
    history = json.dumps(dict(record), sort_keys=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    if preview:
        write_preview(target, frame, result, protect=protect)
    if result.uncertainty is not None:
        _write_uncertainty(target, frame, result, history=history, protect=protect)
    about: _About = {
        "history": history,
        "metadata_from": frame.source.path,
        "overwrite": overwrite,
        "protect": protect,
    }
    match kind:
        case OutputKind.CFA_DNG:
            return write_cfa_dng(
                target,
                frame,
                result.mosaic,
                noise_profile=result.noise_profile,
                noise_reduction=result.strength / 100.0,
                **about,
            )
        case OutputKind.LINEAR_DNG:
            share = result.strength / 100.0
            return write_linear_dng(target, frame, _rgb(frame, result), noise_reduction=share, **about)
        case OutputKind.TIFF:
            return write_linear_tiff(target, _rgb(frame, result), **about)
        case OutputKind.NPZ:
            arrays: dict[str, NDArray[Any]] = {
                "mosaic": result.mosaic,
                "black_level": frame.black_level,
                "white_level": frame.white_level,
                "cfa": np.array(frame.cfa.name),
                "noise_profile": np.array(result.noise_profile or ()),
                "history": np.array(history),
            }
            if result.rgb is not None:
                arrays["rgb"] = result.rgb.numpy()
            write_npz(target, overwrite=overwrite, protect=protect, **arrays)
            return None


def _write_uncertainty(
    target: Path, frame: RawFrame, result: Restoration, *, history: str, protect: Iterable[Path]
) -> None:
    """Map and picture; those that a killed run left without their picture are replaced."""
    assert result.uncertainty is not None
    span = float(np.mean(frame.white_level - frame.black_level))
    numbers, picture = uncertainty_paths(target)
    protect = [*protect, *([] if frame.source.path is None else [frame.source.path])]
    std = result.uncertainty
    write_error_picture(picture, std, span_dn=span, orientation=frame.orientation, overwrite=True, protect=protect)
    write_error_map(numbers, std, span_dn=span, history=history, overwrite=True, protect=protect)


def write_preview(target: Path, frame: RawFrame, result: Restoration, *, protect: Iterable[Path] = ()) -> None:
    """Write the before/after PNG of a picture; one that a killed run left without its picture is replaced."""
    before_after_png(preview_path(target), frame, result.mosaic, rgb=result.rgb, overwrite=True, protect=protect)


def read_record(path: Path) -> dict[str, Any] | None:
    """The record inside a result of ours; None for any other file."""
    history = read_history(path)
    try:
        record = json.loads(history or "null")
    except json.JSONDecodeError:
        return None
    return record if isinstance(record, dict) and record.get("tool") == "physrestore" else None


def _rgb(frame: RawFrame, result: Restoration) -> torch.Tensor:
    """(3, H, W) linear camera RGB, black at 0, white at 1: the method's own, else demosaicked by fixed filters."""
    if result.rgb is not None:
        return result.rgb
    height, width = frame.shape
    black = tile_to(torch.from_numpy(frame.black_level).float(), height, width)
    white = tile_to(torch.from_numpy(frame.white_level).float(), height, width)
    x = torch.from_numpy(result.mosaic.astype(np.float32)).sub_(black).div_(white - black)
    return demosaic(x[None, None], frame.cfa)[0]
