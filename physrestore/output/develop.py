"""From sensor values to something to look at: the plainest honest development, for previews and thumbnails.

Black and white level, white balance as shot, demosaicking, camera colours to sRGB, the sRGB tone curve. No noise
reduction, no sharpening, no local tone mapping: two pictures developed alike differ only in their raw values.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from noise_models.frame import Colour, RawFrame, tile_to
from physrestore.demosaic import demosaic

# Linear sRGB to XYZ at D65 (IEC 61966-2-1).
SRGB_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_LUMINANCE = SRGB_TO_XYZ[1]

_BRIGHT_SHARE = 99.0  # percentile of luminance that automatic exposure places at _BRIGHT_LEVEL
_BRIGHT_LEVEL = 0.8
_EXPOSURE_RANGE = (0.25, 64.0)  # two stops down, six up: beyond that a picture is better left dark
_MARGIN = 12  # sites around a region, so that its demosaicked border is that of the whole picture; periods 1, 2, 6 fit

Float = NDArray[np.float32]


def camera_to_srgb(colour: Colour) -> NDArray[np.float64]:
    """Matrix (3, 3) from white-balanced camera RGB to linear sRGB that keeps white white.

    Without a known colour matrix the camera's primaries are taken for sRGB's.
    """
    if colour.color_matrix1 is None:
        return np.eye(3)
    camera_from_srgb = np.array(colour.color_matrix1) @ SRGB_TO_XYZ
    inverse: NDArray[np.float64] = np.linalg.inv(camera_from_srgb / camera_from_srgb.sum(axis=1, keepdims=True))
    return inverse


def binned(frame: RawFrame, mosaic: NDArray[np.uint16] | None = None, *, periods: int = 1) -> Float:
    """Small linear camera RGB: the mean of each colour over blocks of the colour filter array.

    Args:
        frame: For levels and colour filter array.
        mosaic: (H, W) [DN] in place of the frame's own.
        periods: Side of a block in periods of the array (2 sites for Bayer, 6 for X-Trans, 1 for monochrome).

    Returns:
        (h, w, 3) in 0..1 with negative values kept; what does not fill a block is left out.
    """
    values = frame.mosaic if mosaic is None else mosaic
    ph, pw = frame.cfa.period
    h, w = values.shape[0] // (ph * periods), values.shape[1] // (pw * periods)
    blocks = values[: h * periods * ph, : w * periods * pw].reshape(h, periods, ph, w, periods, pw)
    sites = blocks.mean(axis=(1, 4), dtype=np.float32)  # (h, ph, w, pw)
    scale = 1.0 / (frame.white_level - frame.black_level)
    x = (sites - frame.black_level[None, :, None, :]) * scale[None, :, None, :]
    return np.stack([_mean_of_sites(x, frame, letter) for letter in "RGB"], axis=-1).astype(np.float32)


def developed(rgb: Float, colour: Colour, *, exposure: float = 1.0) -> NDArray[np.uint8]:
    """Linear camera RGB (h, w, 3) to sRGB, 8 bit.

    Args:
        rgb: Black at 0, white at 1. Clipped sites become white, whatever the white balance.
        colour: White balance and matrix; without a neutral the colours are left unbalanced.
        exposure: Factor on linear light.
    """
    light = np.clip(_srgb_light(rgb, colour) * exposure, 0.0, 1.0)
    curve = np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.power(light, 1 / 2.4) - 0.055)  # IEC 61966-2-1
    picture: NDArray[np.uint8] = np.round(255 * curve).astype(np.uint8)
    return picture


def auto_exposure(frame: RawFrame, mosaic: NDArray[np.uint16] | None = None) -> float:
    """The `developed` exposure that makes a frame's bright parts bright; use one value for pictures to compare."""
    periods = max(1, min(frame.shape) // (256 * frame.cfa.period[0]))
    luminance = _srgb_light(binned(frame, mosaic, periods=periods), frame.colour) @ _LUMINANCE
    bright = float(np.percentile(luminance, _BRIGHT_SHARE))
    low, high = _EXPOSURE_RANGE
    return high if bright <= _BRIGHT_LEVEL / high else max(low, _BRIGHT_LEVEL / bright)


def render(
    frame: RawFrame,
    mosaic: NDArray[np.uint16] | None = None,
    *,
    exposure: float = 1.0,
    region: tuple[int, int, int, int] | None = None,
) -> NDArray[np.uint8]:
    """A frame, or a part of it, at full size in sRGB.

    Args:
        frame: For levels, colours and colour filter array.
        mosaic: (H, W) [DN] in place of the frame's own.
        exposure: Factor on linear light, e.g. from `auto_exposure`.
        region: (top, left, height, width) in sites; None: all.

    Returns:
        (height, width, 3) sRGB, in the orientation of the sensor.
    """
    values = frame.mosaic if mosaic is None else mosaic
    top, left, height, width = (0, 0, *values.shape) if region is None else region
    first_row, first_column = max(0, top - _MARGIN), max(0, left - _MARGIN)
    part = values[first_row : top + height + _MARGIN, first_column : left + width + _MARGIN]
    black, scale = (
        tile_to(torch.from_numpy(np.roll(level, (-first_row, -first_column), (0, 1))).float(), *part.shape)
        for level in (frame.black_level, 1.0 / (frame.white_level - frame.black_level))
    )
    x = torch.from_numpy(part.astype(np.float32)).sub_(black).mul_(scale)
    rgb = demosaic(x[None, None], frame.cfa.shifted(first_row, first_column))[0].permute(1, 2, 0).numpy()
    inner = rgb[top - first_row :, left - first_column :][:height, :width]
    return developed(inner, frame.colour, exposure=exposure)


def upright(picture: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn (H, W, 3) as EXIF orientation 1..8 asks a viewer to."""
    if orientation >= 5:
        picture = picture.swapaxes(0, 1)  # 5 to 8 show columns as rows
    flip_rows, flip_columns = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return picture[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]


def _srgb_light(rgb: Float, colour: Colour) -> Float:
    neutral = np.array(colour.as_shot_neutral or (1.0, 1.0, 1.0), dtype=np.float32)
    balanced = np.minimum(rgb / neutral * neutral.max(), 1.0)
    light: Float = balanced @ camera_to_srgb(colour).T.astype(np.float32)
    return light


def _mean_of_sites(x: NDArray[np.floating], frame: RawFrame, letter: str) -> NDArray[np.floating]:
    wanted = "M" if frame.cfa.is_mono else letter
    sites = [(i, j) for i, row in enumerate(frame.cfa.rows) for j, c in enumerate(row) if c == wanted]
    mean: NDArray[np.floating] = np.mean([x[:, i, :, j] for i, j in sites], axis=0)
    return mean
