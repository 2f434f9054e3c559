"""Tiles cover everything once, keep the CFA phase, and leave no trace."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from physrestore.tiling import map_tiles, tiles

sizes = st.integers(1, 200)


@given(height=sizes, width=sizes, tile=st.integers(2, 40), blend=st.integers(0, 8), align=st.sampled_from([1, 2, 6]))
def test_windows_sum_to_one_and_reads_are_aligned(height: int, width: int, tile: int, blend: int, align: int) -> None:
    tile, blend = tile * align, min(2 * blend * align, tile // 2 * 2 * align)
    total = torch.zeros(height, width)
    for piece in tiles(height, width, tile=tile, halo=3 * align, blend=blend, align=align):
        total[piece.write] += piece.window
        assert all(s.start % align == 0 for s in (*piece.read, *piece.write))
        assert all(0 <= s.start < s.stop <= n for s, n in zip(piece.read, (height, width), strict=True))
        inside = torch.zeros(height, width)[piece.read][piece.inside]
        assert inside.shape == piece.window.shape
    torch.testing.assert_close(total, torch.ones(height, width))


@given(size=st.integers(1, 9000), tile=st.integers(8, 40), align=st.sampled_from([1, 2, 6]))
def test_tiles_are_about_equal(size: int, tile: int, align: int) -> None:
    lengths = [
        piece.write[0].stop - piece.write[0].start for piece in tiles(size, 1, tile=tile * align, align=align, halo=0)
    ]
    assert max(lengths) - min(lengths) < 2 * align
    assert max(lengths) < 1.5 * tile * align
    assert len(lengths) == 1 or min(lengths) > 0.7 * tile * align


def blur(planes: Tensor) -> Tensor:
    """A local operation of reach 4."""
    return F.avg_pool2d(planes[None], 9, stride=1, padding=4, count_include_pad=False)[0]


@given(height=st.integers(30, 120), width=st.integers(30, 120), tile=st.sampled_from([16, 32, 64]))
def test_a_halo_of_the_reach_makes_tiles_exact(height: int, width: int, tile: int) -> None:
    planes = torch.rand(2, height, width, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(map_tiles(blur, planes, tile=tile, halo=4), blur(planes), atol=1e-6, rtol=0)


def test_too_small_a_halo_is_seen_by_the_same_test() -> None:
    planes = torch.rand(2, 80, 80, generator=torch.Generator().manual_seed(0))
    assert float((map_tiles(blur, planes, tile=16, halo=2) - blur(planes)).abs().max()) > 1e-2


def test_blending_removes_the_seam_of_a_global_operation() -> None:
    def relative(planes: Tensor) -> Tensor:
        return planes - planes.mean()

    ramp = torch.linspace(0, 1, 128).expand(1, 128, 128)
    hard = map_tiles(relative, ramp, tile=32, halo=0)
    soft = map_tiles(relative, ramp, tile=32, halo=0, blend=32)
    assert float(hard.diff(dim=2).abs().max()) > 0.2
    assert float(soft.diff(dim=2).abs().max()) < 0.02


def test_progress_counts_every_pixel_once() -> None:
    counts: list[int] = []
    map_tiles(blur, torch.zeros(1, 70, 90), tile=32, halo=4, on_tile=counts.append)
    assert sum(counts) == 70 * 90
    assert len(counts) > 1


@pytest.mark.parametrize("wrong", [{"tile": 0}, {"tile": 33}, {"halo": 3}, {"blend": 2}, {"tile": 8, "blend": 12}])
def test_widths_that_break_the_phase_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="multiple of"):
        list(tiles(64, 64, **wrong))
