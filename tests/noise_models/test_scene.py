"""The procedural scene: what it holds, and that a mosaic can hold it."""

import numpy as np
import pytest
import torch

from noise_models.scene import still_life as scene_module
from noise_models.scene.glyphs import text_bitmap
from noise_models.scene.still_life import PATCHES, procedural_scene

HEIGHT, WIDTH = 400, 600
UNIT = WIDTH / 3  # pixels a canvas unit


@pytest.fixture(scope="module")
def scene() -> torch.Tensor:
    return procedural_scene(HEIGHT, WIDTH)


def test_is_linear_light_with_a_few_highlights(scene: torch.Tensor) -> None:
    assert scene.shape == (3, HEIGHT, WIDTH)
    assert scene.dtype == torch.float32
    assert bool(torch.isfinite(scene).all())
    assert float(scene.min()) >= 0.0
    clipped = float((scene > 1.0).any(dim=0).double().mean())
    assert 2e-4 < clipped < 5e-3
    assert 1.5 < float(scene.max()) < 4.0


def test_is_decided_by_its_seed(scene: torch.Tensor) -> None:
    assert torch.equal(scene, procedural_scene(HEIGHT, WIDTH))
    other = procedural_scene(HEIGHT, WIDTH, seed=1)
    chart = np.s_[:, 30:240, 30:320]
    assert torch.equal(scene[chart], other[chart])
    assert float((scene - other).abs().max()) > 0.1


def test_bands_leave_no_trace(scene: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene_module, "SAMPLES_PER_BAND", 37 * 9 * WIDTH)
    torch.testing.assert_close(procedural_scene(HEIGHT, WIDTH), scene, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(100, 300), (300, 100), (1, 1), (20, 30)])
def test_every_size_and_aspect(height: int, width: int) -> None:
    other = procedural_scene(height, width)
    assert other.shape == (3, height, width)
    assert bool(torch.isfinite(other).all())
    assert float(other.min()) >= 0.0


@pytest.mark.parametrize(("height", "width"), [(0, 4), (4, 0)])
def test_no_pixels_are_refused(height: int, width: int) -> None:
    with pytest.raises(ValueError, match="at least 1 x 1"):
        procedural_scene(height, width)


def test_chart_colours_are_exact(scene: torch.Tensor) -> None:
    for row, colours in enumerate(PATCHES):
        for column, colour in enumerate(colours):
            y, x = (0.84 + 0.104 * row + 0.047) * UNIT, (0.19 + 0.104 * column + 0.047) * UNIT
            torch.testing.assert_close(scene[:, int(y), int(x)], torch.tensor(colour))


def test_dark_corner_is_dark_and_has_detail(scene: torch.Tensor) -> None:
    corner = scene[1, int(1.55 * UNIT) : int(1.88 * UNIT), int(1.90 * UNIT) : int(2.5 * UNIT)]
    assert float(corner.mean()) < 0.02
    assert float(corner.std() / corner.mean()) > 0.3


def test_is_band_limited(scene: torch.Tensor) -> None:
    """Little power beyond 0.4 cycles a pixel: what is lost in a mosaic is noise, not scene."""

    def beyond(image: torch.Tensor) -> float:
        window = torch.hann_window(HEIGHT)[:, None] * torch.hann_window(WIDTH)
        power = torch.fft.fft2((image - image.mean()) * window).abs().square()
        frequency = torch.hypot(torch.fft.fftfreq(HEIGHT)[:, None], torch.fft.fftfreq(WIDTH)[None])
        return float(power[frequency > 0.4].sum() / power[frequency > 0.05].sum())

    assert beyond(scene[1]) < 0.04
    aliased = procedural_scene(2 * HEIGHT, 2 * WIDTH)[1, ::2, ::2]
    assert beyond(aliased) > 0.08


def test_has_fine_texture(scene: torch.Tensor) -> None:
    """Leaves, rings and lines: the local contrast at pixel scale is large in several tenths of the chart and plant."""
    detail = (scene[1, 1:, 1:] - scene[1, :-1, :-1]).abs() / (scene[1, 1:, 1:] + 0.02)
    plant = detail[int(0.3 * UNIT) : int(0.9 * UNIT), int(1.9 * UNIT) : int(2.7 * UNIT)]
    wall = detail[:10]
    assert float(plant.median()) > 0.1
    assert float(wall.median()) < 0.01


def test_text_bitmap_is_readable() -> None:
    rows = ["".join("#" if dot else "." for dot in row) for row in text_bitmap("L1").tolist()]
    assert rows == [
        "#.......#..",
        "#......##..",
        "#.......#..",
        "#.......#..",
        "#.......#..",
        "#.......#..",
        "#####..###.",
    ]


@pytest.mark.parametrize(("words", "message"), [("aB", r"\['a'\]"), ("", "empty text")])
def test_text_outside_the_alphabet_is_refused(words: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        text_bitmap(words)


def test_no_two_glyphs_are_alike() -> None:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,-+=/"
    shapes = {tuple(text_bitmap(letter).flatten().tolist()) for letter in alphabet}
    assert len(shapes) == len(alphabet)
