"""Previews show what is in the raw: neutral greys, right brightness, crops where there is something to see."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from noise_models.frame import Colour, RawFrame
from physrestore.errors import UnsafeOutput, UnwritableImage
from physrestore.output.develop import auto_exposure, binned, camera_to_srgb, render, upright
from physrestore.output.preview import before_after_png, choose_places
from tests.physrestore.sample_frames import BLACK, NEUTRAL, WHITE, XTRANS, grey_frame, noise_frame

PATTERNS = ["RGGB", "GRBG", "GBRG", "BGGR", XTRANS, "M"]


def srgb(light: float) -> int:
    return round(255 * (1.055 * light ** (1 / 2.4) - 0.055))


def unbalanced(frame: RawFrame) -> RawFrame:
    """Monochrome needs no white balance."""
    return replace(frame, colour=Colour()) if frame.cfa.is_mono else frame


@pytest.mark.parametrize("cfa", PATTERNS)
def test_a_grey_card_is_grey_and_as_bright_as_it_was(cfa: str) -> None:
    frame = unbalanced(grey_frame(61, 47, cfa, level=0.18))
    picture = render(frame)
    assert picture.shape == (61, 47, 3)
    assert np.abs(picture.astype(int) - srgb(0.18)).max() <= 1
    brighter = render(frame, exposure=2.0)
    assert np.abs(brighter.astype(int) - srgb(0.36)).max() <= 1


def test_without_white_balance_a_grey_card_is_not_grey() -> None:
    frame = grey_frame(61, 47)
    picture = render(replace(frame, colour=replace(frame.colour, as_shot_neutral=None)))
    assert np.ptp(picture[30, 30].astype(int)) > 30


@pytest.mark.parametrize("cfa", PATTERNS)
def test_a_region_is_that_part_of_the_whole(cfa: str) -> None:
    frame = unbalanced(noise_frame(120, 130, cfa, low=600, high=16000))
    frame = replace(
        frame, black_level=BLACK + 20.0 * np.arange(frame.black_level.size).reshape(frame.black_level.shape)
    )
    whole = render(frame)
    for top, left, height, width in ((0, 0, 40, 40), (37, 51, 33, 29), (80, 90, 40, 40)):
        part = render(frame, region=(top, left, height, width))
        assert np.array_equal(part, whole[top : top + height, left : left + width])


@pytest.mark.parametrize("cfa", PATTERNS)
def test_binning_is_the_mean_of_each_colour(cfa: str) -> None:
    frame = unbalanced(grey_frame(72, 96, cfa, level=0.5))
    small = binned(frame, periods=2)
    want = (1.0, 1.0, 1.0) if cfa == "M" else NEUTRAL
    side = 2 * frame.cfa.period[0]
    assert small.shape == (72 // side, 96 // side, 3)
    assert np.allclose(small, 0.5 * np.array(want), atol=1 / (WHITE - BLACK))


def test_clipped_light_is_white_whatever_the_balance() -> None:
    frame = grey_frame(40, 40)
    blown = np.full((40, 40), 65535, np.uint16)
    assert set(render(frame, blown).ravel()) == {255}


def test_the_colour_matrix_keeps_white_white() -> None:
    colour = grey_frame(16, 16).colour
    assert np.allclose(camera_to_srgb(colour) @ np.ones(3), 1.0)
    assert not np.allclose(camera_to_srgb(colour), np.eye(3), atol=0.1)
    assert np.array_equal(camera_to_srgb(Colour()), np.eye(3))


def test_exposure_lifts_dark_pictures_within_limits() -> None:
    assert auto_exposure(grey_frame(200, 200, level=0.1)) == pytest.approx(8.0, rel=0.01)
    assert auto_exposure(grey_frame(200, 200, level=0.8)) == pytest.approx(1.0, rel=0.01)
    assert auto_exposure(grey_frame(200, 200, level=0.0)) == 64.0


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_as_pillow_turns_them(orientation: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    image = Image.fromarray(picture)
    image.getexif()[274] = orientation
    assert np.array_equal(upright(picture, orientation), np.asarray(ImageOps.exif_transpose(image)))


def scene(height: int = 960, width: int = 960) -> RawFrame:
    """Left half smooth and bright, top right fine bars, bottom right dark."""
    level = np.full((height, width), 0.5)
    level[: height // 2, width // 2 :] = 0.3 + 0.2 * (np.arange(width // 2) // 30 % 2)
    level[height // 2 :, width // 2 :] = 0.01
    frame = grey_frame(height, width, "M")
    mean = BLACK + level * (WHITE - BLACK)
    noisy = mean + np.random.default_rng(0).normal(0, 40, mean.shape)
    return replace(frame, mosaic=noisy.round().astype(np.uint16), colour=Colour())


def test_places_show_what_their_labels_say() -> None:
    places = {place.label: place.region for place in choose_places(scene(), side=300)}
    assert list(places) == ["smooth", "detail", "dark"]
    top, left, height, width = places["smooth"]
    assert left + width <= 480 + 12
    top, left, height, width = places["detail"]
    assert top + height / 2 < 480 < left + width / 2
    top, left, height, width = places["dark"]
    assert top + height / 2 > 480
    assert left + width / 2 > 480


@pytest.mark.parametrize("size", [(16, 16), (40, 90), (480, 640), (700, 700)])
def test_places_lie_inside_any_picture(size: tuple[int, int]) -> None:
    for place in choose_places(noise_frame(*size)):
        top, left, height, width = place.region
        assert top >= 0
        assert left >= 0
        assert top + height <= size[0]
        assert left + width <= size[1]


@pytest.mark.parametrize("cfa", ["RGGB", XTRANS, "M"])
def test_sheet_shows_before_left_and_after_right(tmp_path: Path, cfa: str) -> None:
    before = unbalanced(grey_frame(600, 800, cfa, level=0.2, sigma_dn=200.0))
    after = unbalanced(grey_frame(600, 800, cfa, level=0.2)).mosaic
    before_after_png(tmp_path / "a.png", before, after)
    with Image.open(tmp_path / "a.png") as image:
        sheet = np.asarray(image).astype(int)
    half = sheet.shape[1] // 2
    crop = slice(sheet.shape[0] - 300, sheet.shape[0] - 20)
    left, right = sheet[crop, 40 : half - 40, 1], sheet[crop, half + 40 : -40, 1]
    assert left.std() > 5
    assert right.std() < 1
    assert abs(left.mean() - right.mean()) < 3  # one exposure for both


def test_sheet_refuses_another_size_and_the_original(tmp_path: Path) -> None:
    frame = grey_frame(64, 64)
    with pytest.raises(UnwritableImage, match=r"must be \(64, 64\)"):
        before_after_png(tmp_path / "a.png", frame, np.zeros((64, 60), np.uint16))
    original = tmp_path / "photo.png"
    original.write_bytes(b"original")
    with pytest.raises(UnsafeOutput):
        before_after_png(original, frame, frame.mosaic, overwrite=True, protect=[original])
    assert original.read_bytes() == b"original"
