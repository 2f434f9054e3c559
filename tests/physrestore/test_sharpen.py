"""Undoing a blur, finding one, and twice the pixels."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from noise_models.cfa import XTRANS_ROWS
from physrestore.contract import Options
from physrestore.errors import RestoreError
from physrestore.operators.blur import Blur
from physrestore.operators.kernels import gaussian_profile
from physrestore.pipeline import Method, restore
from physrestore.pnp import restore_pnp
from physrestore.pnp.sharpness import SHARP_PX, found_blur
from physrestore.quality import psnr
from tests.physrestore.test_pnp import BLACK, NEUTRAL, WHITE, frame_of, scene, sensor_noise

XTRANS = "".join(XTRANS_ROWS)
# Told of frames without noise [DN]: about 32000 electrons at white.
CLEAN = {"gain": 0.5, "read": 2.0}


def gaussian(sigma: float) -> torch.Tensor:
    profile = gaussian_profile(sigma).float()
    return profile[:, None] * profile


def bars(size: int) -> torch.Tensor:
    """Blocks of eight different greys and colours, (3, size, size): steps every 16 pixels."""
    generator = torch.Generator().manual_seed(3)
    cells = 0.1 + 0.5 * torch.rand(3, size // 16, size // 16, generator=generator)
    cells = (0.7 * cells.mean(0, keepdim=True) + 0.3 * cells) * torch.tensor(NEUTRAL).reshape(3, 1, 1)
    return cells.repeat_interleave(16, 1).repeat_interleave(16, 2)


@pytest.mark.parametrize("name", ["RGGB", XTRANS])
def test_a_known_blur_is_undone(name: str) -> None:
    truth = bars(80)
    seen = Blur(gaussian(1.0), boundary="reflect").A(truth[None])[0]
    frame = frame_of(seen, name, noisy=False)
    noise = sensor_noise(frame.cfa, **CLEAN)
    inner = (slice(None), slice(8, -8), slice(8, -8))

    plain, sharp = (restore_pnp(frame, noise, blur=kernel).rgb for kernel in (None, gaussian(1.0)))

    assert psnr(sharp[inner], truth[inner]) > psnr(plain[inner], truth[inner]) + 3.0
    # The planted error: a shake that never was.
    wrong = restore_pnp(frame, noise, blur=torch.full((1, 7), 1 / 7)).rgb
    assert psnr(wrong[inner], truth[inner]) < psnr(sharp[inner], truth[inner]) - 2.0


def test_noise_is_not_lifted() -> None:
    frame = frame_of(torch.full((3, 72, 72), 0.2), "RGGB")

    sharp = restore_pnp(frame, sensor_noise(frame.cfa), blur=gaussian(1.0)).rgb

    per_site = float((frame.linear() - frame.linear().mean()).std())
    assert float(sharp.std(dim=(1, 2)).max()) < 0.35 * per_site
    assert float(sharp.mean()) == pytest.approx(0.2, rel=5e-3)


def test_strength_zero_keeps_the_noise_in_a_deblurred_picture() -> None:
    frame = frame_of(torch.full((3, 48, 48), 0.2), "RGGB")
    noise = sensor_noise(frame.cfa)

    kept, gone = (restore_pnp(frame, noise, blur=gaussian(0.8), strength=s).rgb for s in (0, 100))

    assert float(kept[1].std()) > 3 * float(gone[1].std())


@pytest.mark.parametrize("name", ["RGGB", XTRANS])
def test_twice_the_pixels_are_better_than_enlarged_ones(name: str) -> None:
    truth = bars(112)[:, 4:, 4:][:, :96, :96]  # steps fall on every kind of site
    frame = frame_of(F.avg_pool2d(truth[None], 2)[0], name, noisy=False)
    noise = sensor_noise(frame.cfa, **CLEAN)
    options = Options(scale=2, device="cpu")

    result = restore(frame, noise, method=Method.PNP, options=options)

    assert result.rgb is not None
    assert result.rgb.shape == truth.shape
    assert result.mosaic.shape == frame.shape
    plain = restore_pnp(frame, noise).rgb
    enlarged = F.interpolate(plain[None], scale_factor=2, mode="bicubic")[0]
    inner = (slice(None), slice(8, -8), slice(8, -8))
    assert psnr(result.rgb[inner], truth[inner]) > psnr(enlarged[inner], truth[inner]) + 0.5
    # Its pixels gather to what the sensor saw.
    seen = F.avg_pool2d(result.rgb[None], 2)[0]
    assert psnr(seen, plain) > 35.0


@pytest.mark.parametrize("sigma", [0.8, 1.5])
def test_a_blur_is_found_from_edges(sigma: float) -> None:
    truth = bars(320)
    seen = Blur(gaussian(sigma), boundary="reflect").A(truth[None])[0]
    frame = frame_of(seen, "RGGB", noisy=False)
    noise = sensor_noise(frame.cfa, **CLEAN)

    found = found_blur(frame, noise)

    assert found.sigma_px == pytest.approx(sigma, abs=0.2)
    assert found.kernel is not None
    assert float(found.kernel.sum()) == pytest.approx(1.0)
    assert "it was undone" in found.note


def test_a_sharp_picture_is_left_alone() -> None:
    frame = frame_of(bars(320), "RGGB", noisy=False)

    found = found_blur(frame, sensor_noise(frame.cfa, **CLEAN))

    assert found.sigma_px < SHARP_PX
    assert found.kernel is None
    assert "nothing was undone" in found.note


def test_without_edges_the_estimate_is_refused() -> None:
    smooth = scene(96, 96)[:, :, :1].expand(3, 96, 96).contiguous()
    frame = frame_of(smooth, "RGGB")
    options = Options(blur="estimate", device="cpu")

    with pytest.raises(RestoreError, match=r"0 clear edges were found, and 150 are needed. Give the blur"):
        restore(frame, sensor_noise(frame.cfa), method=Method.PNP, options=options)


def test_a_kernel_beyond_the_halo_is_refused() -> None:
    frame = frame_of(scene(48, 48), "RGGB")

    with pytest.raises(RestoreError, match="51x51 sites is too large: at most 49x49"):
        restore_pnp(frame, sensor_noise(frame.cfa), blur=torch.full((51, 51), 1 / 51**2))


def test_a_clipped_site_pulls_upwards_only_when_deblurring() -> None:
    truth = bars(64) * 3.0
    seen = Blur(gaussian(0.8), boundary="reflect").A(truth[None])[0]
    frame = frame_of(seen, "RGGB")

    rgb = restore_pnp(frame, sensor_noise(frame.cfa), blur=gaussian(0.8)).rgb

    assert frame.clipped().float().mean() > 0.05
    assert bool(torch.isfinite(rgb).all())
    assert float(rgb.max()) > 1.0
    assert float(rgb.min()) > -5 * 10.0 / (WHITE - BLACK)
