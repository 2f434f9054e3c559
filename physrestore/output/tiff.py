"""16-bit linear TIFF, for programs that do not read raws."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import tifffile
from numpy.typing import NDArray
from torch import Tensor

from physrestore.errors import UnwritableImage
from physrestore.output.metadata import MetadataCopy, copy_metadata
from physrestore.output.publish import publish
from physrestore.output.quantise import to_uint16
from physrestore.output.record import SOFTWARE, xmp_packet
from physrestore.output.tags import Tag

_BYTE = 1  # TIFF type of an XMP packet
_DESCRIPTION = "Linear light, 0 black, 65535 white; no colour profile."


def write_linear_tiff(
    path: Path,
    image: Tensor | NDArray[np.floating],
    *,
    history: str = "",
    metadata_from: Path | None = None,
    overwrite: bool = False,
    protect: Iterable[Path] = (),
) -> MetadataCopy | None:
    """Write linear light as 16-bit TIFF, deflate-compressed, black 0 and white 65535.

    The values are stored as they are, in the colours they have (of the camera, unless they were converted); a
    program that expects sRGB shows them too dark.

    Args:
        path: Final name.
        image: (3, H, W) or (1, H, W), 0 black, 1 white; values outside are clipped.
        history: How the picture was made, kept in XMP; `record.read_history` gives it back.
        metadata_from: File whose metadata exiftool copies before the TIFF is published.
        overwrite: Replace what is at ``path``.
        protect: Originals that are never replaced.

    Returns:
        What became of the metadata copy; None if none was asked for.

    Raises:
        UnwritableImage: another shape, or values that are not finite.
        OutputExists, UnsafeOutput, WriteError: see `publish`.
    """
    if image.shape[0] not in (1, 3):
        raise UnwritableImage(f"A TIFF needs (1, H, W) or (3, H, W), not {tuple(image.shape)}.")
    pixels = to_uint16(image)
    packet = xmp_packet(history)
    copies: list[MetadataCopy] = []

    def write(file: BinaryIO) -> None:
        tifffile.imwrite(
            file,
            pixels if pixels.shape[2] == 3 else pixels[..., 0],
            photometric="rgb" if pixels.shape[2] == 3 else "minisblack",
            byteorder="<",
            compression="deflate",
            predictor=True,
            rowsperstrip=256,  # bounds the memory of readers
            description=_DESCRIPTION,
            software=SOFTWARE,
            metadata=None,
            extratags=[(int(Tag.XMP), _BYTE, len(packet), packet, True)],
        )

    def add_metadata(temp: Path) -> None:
        if metadata_from is not None:
            copies.append(copy_metadata(metadata_from, temp))

    originals = [*protect, *([] if metadata_from is None else [metadata_from])]
    publish(path, write, overwrite=overwrite, protect=originals, finish=add_metadata)
    return copies[0] if copies else None
