"""Laws of the fixed linear demosaickers."""

from __future__ import annotations

import pytest
import torch

from noise_models.cfa import BAYER_PHASES, QUAD_BAYER_ROWS, XTRANS_ROWS, Cfa, plane_mask
from physrestore.demosaic import demosaic

ARRAYS = [Cfa.parse(name) for name in BAYER_PHASES] + [
    Cfa(XTRANS_ROWS),
    Cfa(XTRANS_ROWS).shifted(2, 5),
    Cfa(QUAD_BAYER_ROWS),
    Cfa(QUAD_BAYER_ROWS).shifted(3, 1),
]


def mosaic_of(rgb: torch.Tensor, cfa: Cfa) -> torch.Tensor:
    out = torch.zeros_like(rgb[:, :1])
    for name in cfa.plane_names:
        channel = "RGB".index(name[0])
        out = torch.where(plane_mask(cfa, name, out), rgb[:, channel : channel + 1], out)
    return out


@pytest.mark.parametrize("cfa", ARRAYS, ids=lambda cfa: cfa.name[:6])
def test_measured_sites_keep_their_values(cfa: Cfa) -> None:
    rgb = torch.rand(2, 3, 24, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    mosaic = mosaic_of(rgb, cfa)

    again = mosaic_of(demosaic(mosaic, cfa), cfa)

    assert torch.equal(again, mosaic)


@pytest.mark.parametrize("cfa", ARRAYS, ids=lambda cfa: cfa.name[:6])
def test_flat_colour_is_exact(cfa: Cfa) -> None:
    rgb = torch.tensor([0.9, 0.4, 0.1], dtype=torch.float64).reshape(1, 3, 1, 1).expand(1, 3, 18, 18)
    # Malvar's gradient correction moves flat saturated colours by nothing: its laplacians vanish on constants.
    torch.testing.assert_close(demosaic(mosaic_of(rgb, cfa), cfa), rgb.clone(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("cfa", ARRAYS[:4], ids=lambda cfa: cfa.name)
def test_grey_ramp_is_exact_inside(cfa: Cfa) -> None:
    ramp = torch.arange(20, dtype=torch.float64)[None, :] + 3 * torch.arange(16, dtype=torch.float64)[:, None]
    rgb = ramp.expand(1, 3, 16, 20).clone()

    inside = demosaic(mosaic_of(rgb, cfa), cfa)[..., 2:-2, 2:-2]

    torch.testing.assert_close(inside, rgb[..., 2:-2, 2:-2], rtol=0, atol=1e-12)


def test_wrong_phase_breaks_flat_colour() -> None:
    rgb = torch.tensor([0.9, 0.4, 0.1]).reshape(1, 3, 1, 1).expand(1, 3, 18, 18)

    wrong = demosaic(mosaic_of(rgb, Cfa.parse("RGGB")), Cfa.parse("BGGR"))

    assert (wrong - rgb).abs().max() > 0.5


def test_monochrome_is_repeated() -> None:
    x = torch.rand(1, 1, 5, 7)
    assert torch.equal(demosaic(x, Cfa.parse("M")), x.expand(1, 3, 5, 7))
