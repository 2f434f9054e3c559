"""Ordinary picture files as linear light: nothing of their depth is lost on the way."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from physrestore.pictures import read_linear, srgb_to_linear


def ramp(height: int, width: int, channels: int) -> np.ndarray:
    """16-bit values whose lower bytes matter."""
    values = np.linspace(3, 65535, height * width * channels).astype(np.uint16)
    return values.reshape(height, width, channels).squeeze()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_sixteen_bits_are_linear_and_all_kept(tmp_path: Path, channels: int, ending: str) -> None:
    path, values = tmp_path / f"deep{ending}", ramp(32, 48, channels)
    if ending == ".png":
        path.write_bytes(imagecodecs.png_encode(values))
    else:
        tifffile.imwrite(path, values)

    got = read_linear(path)

    wanted = torch.from_numpy(values.reshape(32, 48, channels).astype(np.float32) / 65535).permute(2, 0, 1)
    assert torch.equal(got, wanted)
    # What eight bits would have kept is something else.
    assert not torch.equal(got, (wanted * 255).round() / 255)


def test_eight_bits_are_decoded_by_the_srgb_curve(tmp_path: Path) -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(values).save(tmp_path / "grey.png")

    got = read_linear(tmp_path / "grey.png")

    assert torch.equal(got[0], srgb_to_linear(torch.from_numpy(values.astype(np.float32) / 255)))


def test_odd_edges_are_cropped_only_where_that_is_wanted(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((15, 17, 3), np.uint8)).save(tmp_path / "odd.png")

    assert read_linear(tmp_path / "odd.png").shape == (3, 14, 16)
    assert read_linear(tmp_path / "odd.png", even=False).shape == (3, 15, 17)


def test_a_broken_deep_png_is_refused_by_name(tmp_path: Path) -> None:
    whole = imagecodecs.png_encode(ramp(32, 48, 3))
    (tmp_path / "broken.png").write_bytes(whole[:40] + b"\0" * 40)

    with pytest.raises(ValueError, match=r"'broken.png' cannot be read as PNG"):
        read_linear(tmp_path / "broken.png")
