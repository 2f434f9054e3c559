"""Frames of machine-vision cameras: grey TIFF and PNG of 12 to 16 bits, mono or mosaic, one or many frames a file.

Such files state neither levels nor colour filters; the caller does.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from noise_models.calibration.inputs.group import FrameFile
from noise_models.cfa import Cfa
from noise_models.errors import DamagedRaw, NotARawFile, RawTooLarge, UnsupportedRaw
from noise_models.frame import RawFrame, Shot, Source
from noise_models.rawfile import DEFAULT_MAX_MEGAPIXELS

if TYPE_CHECKING:
    from PIL import Image

STACK_EXTENSIONS = frozenset({".tif", ".tiff", ".png"})
MAX_PAGES = 10_000
_UNITS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}
# "10ms", "exp_0.5s", "t=200us": a number and a unit that stand for themselves.
_EXPOSURE = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?) ?(us|µs|ms|s)(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True)
class StackFormat:
    """What grey TIFF and PNG files do not say.

    Attributes:
        cfa: Letters of the colour filter array from the top-left pixel; "M" for monochrome.
        black: Black level [DN].
        white: Level [DN] at and above which a pixel counts as clipped.
        iso: Setting under which the profile files this gain.
        exposure_s: Exposure time [s]; None: as the folder's name says (`folder_exposure`), or unknown.
        model: Name of the camera.
    """

    cfa: str = "M"
    black: float = 0.0
    white: float = 4095.0
    iso: float = 100.0
    exposure_s: float | None = None
    model: str = "Grey image sensor"


def read_stack_frame(
    path: str | Path,
    *,
    cfa: str = "M",
    black: float = 0.0,
    white: float = 4095.0,
    iso: float = 100.0,
    exposure_s: float | None = None,
    page: int = 0,
    model: str = "Grey image sensor",
) -> RawFrame:
    """One frame of a grey TIFF or PNG; the arguments are those of `StackFormat`, and the page of a TIFF from 0.

    Raises:
        NotARawFile: there is no such file, or it is a folder.
        DamagedRaw: it cannot be decoded.
        RawTooLarge: more pixels than `DEFAULT_MAX_MEGAPIXELS`.
        UnsupportedRaw: colour, palette or floating point; values above ``white``; no such page.
    """
    path = Path(path)
    pixels = _pixels(path, page)
    if int(pixels.max()) > white:
        raise UnsupportedRaw(
            path, f"It holds values up to {int(pixels.max())}, above the white level {white:g}. Give its --white."
        )
    array = Cfa.parse(cfa)
    return RawFrame(
        mosaic=pixels,
        cfa=array,
        black_level=np.full(array.period, float(black)),
        white_level=np.full(array.period, float(white)),
        shot=Shot(make="", model=model, iso=iso, exposure_s=exposure_s),
        source=Source(
            path=path,
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            decoder="Pillow",
            integrity_evidence="Decoded without complaint; such files carry no digest.",
        ),
    )


def stack_files(path: str | Path, form: StackFormat) -> list[FrameFile]:
    """The frames of a grey TIFF or PNG: one, or a frame a page.

    A file whose pages cannot be counted is one frame; reading that says what is wrong.

    Args:
        path: The file.
        form: Its levels. Where it names no exposure, the name of the file's folder may.
    """
    path = Path(path)
    exposure = folder_exposure(path.parent.name) if form.exposure_s is None else form.exposure_s
    settings = {
        "cfa": form.cfa,
        "black": form.black,
        "white": form.white,
        "iso": form.iso,
        "exposure_s": exposure,
        "model": form.model,
    }
    try:
        with _open(path) as image:
            pages = int(getattr(image, "n_frames", 1))
    except (NotARawFile, DamagedRaw, RawTooLarge):
        pages = 1
    return [
        FrameFile(
            path,
            partial(read_stack_frame, path, page=page, **settings),  # type: ignore[arg-type]
            f" page {page + 1}" if pages > 1 else "",
        )
        for page in range(min(pages, MAX_PAGES))
    ]


def folder_exposure(name: str) -> float | None:
    """Exposure time [s] that a folder's name states; None if it states none or two different ones.

    >>> folder_exposure("flats_10ms"), folder_exposure("0.5 s"), folder_exposure("lens2")
    (0.01, 0.5, None)
    """
    found = {float(number) * _UNITS[unit.lower()] for number, unit in _EXPOSURE.findall(name)}
    return found.pop() if len(found) == 1 else None


def _open(path: Path) -> Image.Image:
    """The file's header is read and its size judged; no pixels yet."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            # Pillow warns from 89 megapixels on; the ceiling here is our own.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path, formats=("PNG", "TIFF"))
    except Image.DecompressionBombError as error:
        raise RawTooLarge(path, f"It is far above {DEFAULT_MAX_MEGAPIXELS:g} megapixels ({error}).") from error
    except (FileNotFoundError, IsADirectoryError) as error:
        raise NotARawFile(path, "There is no such file.") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise DamagedRaw(path, f"It is not a readable PNG or TIFF image ({error}).") from error
    if image.width * image.height > DEFAULT_MAX_MEGAPIXELS * 1e6:
        image.close()
        raise RawTooLarge(path, f"It has {image.width} x {image.height} pixels; the limit is 200 megapixels.")
    return image


def _pixels(path: Path, page: int) -> NDArray[np.uint16]:
    with _open(path) as image:
        try:
            image.seek(page)
            pixels = np.array(image)
        except EOFError as error:
            raise UnsupportedRaw(path, f"It has no page {page + 1}.") from error
        except (OSError, SyntaxError, ValueError) as error:
            raise DamagedRaw(path, f"Its pixels cannot be decoded ({error}).") from error
        mode = image.mode
    grey = pixels.ndim == 2 and pixels.dtype.kind in "ui" and mode != "P"
    if not grey or pixels.size == 0 or int(pixels.min()) < 0 or int(pixels.max()) > np.iinfo(np.uint16).max:
        raise UnsupportedRaw(
            path, f"It is no grey image of whole numbers up to 16 bits (mode {mode!r}). Export the sensor's raw values."
        )
    return pixels.astype(np.uint16)
