"""Scenes for training: pictures from folders, and the way back from a picture to what a sensor saw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from physrestore.errors import TrainingError
from physrestore.pictures import srgb_to_linear
from physrestore.training.pictures import Pictures
from physrestore.training.unprocess import Unprocessing


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise_picture(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.randint(256, (3, height, width), generator=gen(seed), dtype=torch.uint8)


def write(path: Path, picture: Tensor, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture.movedim(0, -1).numpy()).convert(mode).save(path)


def test_pictures_are_found_in_order_and_small_ones_left_out(tmp_path: Path) -> None:
    first, second = noise_picture(20, 30), noise_picture(24, 24, seed=1)
    write(tmp_path / "b.png", first)
    write(tmp_path / "deep" / "a.PNG", second)
    write(tmp_path / "small.png", noise_picture(8, 40))
    (tmp_path / "notes.txt").write_text("no picture")

    found = Pictures.read([tmp_path], smallest_side=16)

    assert found.names == ["b.png", "a.PNG"]
    assert torch.equal(found.images[0], first)
    assert torch.equal(found.images[1], second)


def test_grey_and_transparent_pictures_become_rgb(tmp_path: Path) -> None:
    write(tmp_path / "grey.png", noise_picture(16, 16), mode="L")
    write(tmp_path / "alpha.png", noise_picture(16, 16), mode="RGBA")

    found = Pictures.read([tmp_path], smallest_side=16)

    assert [tuple(image.shape) for image in found.images] == [(3, 16, 16)] * 2
    assert torch.equal(found.images[1][0], found.images[1][1])  # the grey one


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    write(tmp_path / "good.png", noise_picture(16, 16))
    whole = (tmp_path / "good.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])

    with pytest.raises(TrainingError, match=r"cut\.png cannot be read"):
        Pictures.read([tmp_path], smallest_side=16)


def test_no_picture_is_an_error_that_counts(tmp_path: Path) -> None:
    write(tmp_path / "small.png", noise_picture(8, 40))
    with pytest.raises(TrainingError, match="1 pictures were found, none with sides of 16 pixels"):
        Pictures.read([tmp_path], smallest_side=16)


def is_crop(crop: Tensor, picture: Tensor) -> bool:
    """Whether the crop, turned or mirrored in one of eight ways, is found somewhere in the picture."""
    side = crop.shape[-1]
    windows = picture.unfold(1, side, 1).unfold(2, side, 1).permute(1, 2, 0, 3, 4).flatten(0, 1)
    ways = [torch.rot90(way, k, dims=(-2, -1)) for way in (crop, crop.flip(-1)) for k in range(4)]
    return any(bool((windows == way).flatten(1).all(1).any()) for way in ways)


def test_crops_are_pieces_of_the_pictures() -> None:
    picture = noise_picture(11, 14)
    crops = Pictures([picture]).crops(20, 6, generator=gen(), shrink=0.0)

    assert crops.shape == (20, 3, 6, 6)
    assert crops.dtype == torch.float32
    bytes_again = (crops * 255).round().to(torch.uint8)
    assert all(is_crop(crop, picture) for crop in bytes_again)
    # Every place, turn and mirror is drawn: 20 crops of 54 places and 8 ways are not all alike.
    assert len({crop.numpy().tobytes() for crop in bytes_again}) > 15
    assert not is_crop(noise_picture(6, 6, seed=9), picture)


def test_shrunk_crops_are_means_of_four() -> None:
    stripes = torch.zeros(3, 16, 16, dtype=torch.uint8)
    stripes[:, ::2] = 200
    crops = Pictures([stripes]).crops(30, 8, generator=gen(), shrink=1.0)
    assert torch.equal(crops, torch.full_like(crops, 100 / 255))

    plain = Pictures([stripes]).crops(30, 8, generator=gen(), shrink=0.0)
    assert set(plain.unique().tolist()) == set(torch.tensor([0.0, 200 / 255]).tolist())


def test_a_picture_too_small_to_shrink_is_cropped_as_it_is() -> None:
    picture = noise_picture(9, 15)
    crops = Pictures([picture]).crops(8, 8, generator=gen(), shrink=1.0)
    assert all(is_crop((crop * 255).round().to(torch.uint8), picture) for crop in crops)


def test_pixels_not_pictures_are_equally_likely() -> None:
    """A picture of 3 times the pixels is cut 3 times as often."""
    small, large = torch.zeros(3, 10, 10, dtype=torch.uint8), torch.full((3, 10, 30), 255, dtype=torch.uint8)
    count = 2000
    share = float(Pictures([small, large]).crops(count, 4, generator=gen(), shrink=0.0)[:, 0, 0, 0].mean())
    error = (0.75 * 0.25 / count) ** 0.5
    assert abs(share - 0.75) < 5 * error
    assert abs(share - 0.5) > 5 * error  # each picture as likely


def test_draws_follow_the_generator_alone() -> None:
    pictures = Pictures([noise_picture(20, 20)])
    first, second, other = (pictures.crops(4, 8, generator=gen(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def encoded(linear: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1, the direction of a display file."""
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def test_the_curve_is_undone() -> None:
    linear = np.linspace(0.0, 1.0, 4001)
    back = srgb_to_linear(torch.from_numpy(encoded(linear))).numpy()
    # The standard's two pieces meet with a step of 3e-8 in linear light.
    np.testing.assert_allclose(back, linear, rtol=0, atol=1e-7)
    assert np.abs(linear - encoded(linear)).max() > 0.2  # a curve that is not undone is far away


def test_display_values_are_decoded_before_anything_else() -> None:
    grey = torch.full((1, 3, 1, 1), 0.5)
    light, _ = Unprocessing(exposure=(1.0, 1.0), vivid=0.0).draw(grey, generator=gen())
    assert float(light[0, 1]) == pytest.approx(0.21404, abs=1e-5)  # of green, whose gain is 1


def grey_balance_error(light: Tensor, balance: Tensor) -> float:
    """How far white-balanced grey is from grey, relative."""
    balanced = light * balance[..., None, None]
    return float((balanced / balanced.mean(1, keepdim=True) - 1).abs().max())


def test_grey_is_neutral_after_white_balance_on_every_camera() -> None:
    grey = (torch.rand(64, 1, 4, 4, generator=gen()) * 0.8 + 0.1).expand(64, 3, 4, 4)
    light, balance = Unprocessing(exposure=(0.1, 0.9), vivid=0.0).draw(grey, generator=gen(1))
    assert grey_balance_error(light, balance) < 1e-5
    assert grey_balance_error(light, torch.ones_like(balance)) > 0.1  # no balance: not grey


def test_light_is_what_a_sensor_can_hold() -> None:
    display = torch.rand(64, 3, 8, 8, generator=gen())
    light, balance = Unprocessing().draw(display, generator=gen(1))
    assert float(light.min()) >= 0.0
    assert float(light.max()) == 1.0  # some highlights clip, and end at white
    assert torch.equal(balance[:, 1], torch.ones(64))
    assert float(balance.min()) >= 1.0


def test_ranges_are_kept_and_used_whole() -> None:
    ranges = Unprocessing(red_gain=(1.5, 1.6), blue_gain=(2.0, 2.2), exposure=(0.2, 0.4), vivid=0.0)
    light, balance = ranges.draw(torch.ones(500, 3, 1, 1), generator=gen())
    exposure = light[:, 1, 0, 0]  # green of a white picture: the exposure itself
    for values, (low, high) in (
        (balance[:, 0], (1.5, 1.6)),
        (balance[:, 2], (2.0, 2.2)),
        (exposure, (0.2, 0.4)),
    ):
        assert low - 1e-5 <= float(values.min()) < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < float(values.max()) <= high + 1e-5
    # Log-uniform, not uniform: the median is the geometric mean. Its standard error: 1 / (2 density root n).
    median, density = float(exposure.median()), 1 / (0.2 * 2**0.5 * np.log(2))
    assert abs(median - 0.2 * 2**0.5) < 5 * 0.5 / density / 500**0.5


def test_cameras_see_colours_differently() -> None:
    red = torch.zeros(2, 3, 1, 1)
    red[:, 0] = 1.0
    light, balance = Unprocessing(exposure=(0.5, 0.5), vivid=0.0).draw(red, generator=gen())
    seen = (light * balance[..., None, None])[:, :, 0, 0]
    assert float((seen[0] - seen[1]).abs().max()) > 1e-3
    assert bool((seen[:, 0] > 2 * seen[:, 2]).all())  # and still see red as red


def least_colours(vivid: float) -> tuple[Tensor, Tensor]:
    """Of 400 pale pictures, white-balanced: the least colour over the largest, of the least pixel and of the mean."""
    display = 0.3 + 0.4 * torch.rand(400, 3, 4, 4, generator=gen())
    light, balance = Unprocessing(exposure=(0.5, 0.5), vivid=vivid).draw(display, generator=gen(1))
    balanced = light * balance[..., None, None]
    pixel, mean = (planes / planes.amax(1, keepdim=True) for planes in (balanced, balanced.mean((2, 3), keepdim=True)))
    return pixel.amin((1, 2, 3)), mean.amin((1, 2, 3))


def test_some_pictures_have_colours_that_photographs_hardly_have() -> None:
    pixel, mean = least_colours(0.25)
    # A quarter has each colour dimmed, by factors log-uniform down to 0.02; another has pixels moved from their grey.
    assert 0.08 < float((mean < 0.2).float().mean()) < 0.25
    assert 0.08 < float(((pixel < 0.02) & (mean > 0.3)).float().mean()) < 0.25
    assert float(pixel.median()) > 0.3  # the others are as they were


def test_without_them_pale_pictures_stay_pale() -> None:
    pixel, _ = least_colours(0.0)
    assert float(pixel.min()) > 0.2
