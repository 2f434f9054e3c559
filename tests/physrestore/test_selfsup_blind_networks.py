"""Blindness of every architecture, hole, rotation and odd size, proved by autograd."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from physrestore.networks.blind_spot import (
    DilatedBlindSpot,
    DilatedConfig,
    MaskedBlindSpot,
    MaskedConfig,
    ShiftedBlindSpot,
    ShiftedConfig,
)
from physrestore.networks.blind_spot.dilated import visible_taps
from physrestore.networks.blind_spot.layers import HalfPlaneConv
from physrestore.networks.blind_spot.shifted import HalfPlaneUNet

SIZES = ((16, 16), (13, 11), (9, 20))


def influence(network: nn.Module, size: tuple[int, int], pixel: tuple[int, int], hole: int, channels: int) -> Tensor:
    """|d out(pixel) / d values| summed over channels, (H, W)."""
    generator = torch.Generator().manual_seed(7)
    values = torch.rand(1, channels, *size, generator=generator, dtype=torch.float64, requires_grad=True)
    context = torch.rand(1, 2, *size, generator=generator, dtype=torch.float64)
    out = network(values, context, hole=hole)
    weights = torch.rand(out.shape[1], generator=generator, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((out[0, :, pixel[0], pixel[1]] * weights).sum(), values)
    return gradient[0].abs().sum(0)


def build(kind: str, *, own_row: bool, hole: int, channels: int) -> nn.Module:
    torch.manual_seed(3)
    common: dict[str, Any] = {"in_channels": channels, "context_channels": 2, "out_channels": 3, "width": 4}
    network: nn.Module
    if kind == "shifted":
        network = ShiftedBlindSpot(ShiftedConfig(**common, rotations=4 if own_row else 2, hole=hole))
    elif kind == "dilated":
        config = DilatedConfig(**common, blocks=3, kernels=(7, 9) if hole == 3 else (3, 5), own_row=own_row, hole=hole)
        network = DilatedBlindSpot(config)
    else:
        network = MaskedBlindSpot(MaskedConfig(**common, own_row=own_row, hole=hole))
    return network.double()


@pytest.mark.parametrize("kind", ["shifted", "dilated", "masked"])
@pytest.mark.parametrize("own_row", [True, False])
@pytest.mark.parametrize("hole", [1, 3])
@pytest.mark.parametrize("channels", [1, 4])
def test_no_output_sees_its_hole_and_all_see_around_it(kind: str, own_row: bool, hole: int, channels: int) -> None:
    network = build(kind, own_row=own_row, hole=hole, channels=channels)
    half = hole // 2
    for height, width in SIZES:
        for row, column in ((0, 0), (height // 2, width // 2), (height - 1, width - 1), (height // 2, 1)):
            seen = influence(network, (height, width), (row, column), hole, channels)
            rows = slice(max(row - half, 0), row + half + 1)
            columns = slice(max(column - half, 0), column + half + 1) if own_row else slice(None)
            assert float(seen[rows, columns].abs().max()) == 0.0
            if kind != "dilated" or hole == 1:  # a large hole's dilated kernels see a sparse pattern only
                below = min(row + half + 1, height - 1)
                near = below if below > row + half else row - half - 1
                assert float(seen[near, column]) > 0.0  # the nearest pixel outside is used
            assert float(seen.sum()) > 0.0


def test_four_rotations_see_the_own_row_and_two_do_not() -> None:
    four, two = (build("shifted", own_row=own_row, hole=1, channels=1) for own_row in (True, False))
    assert float(influence(four, (12, 12), (6, 6), 1, 1)[6, 5]) > 0
    assert float(influence(two, (12, 12), (6, 6), 1, 1)[6].sum()) == 0


def test_hole_may_grow_after_training() -> None:
    network = build("shifted", own_row=True, hole=1, channels=1)
    seen = influence(network, (15, 15), (7, 7), 5, 1)
    assert float(seen[5:10, 5:10].sum()) == 0
    assert float(influence(network, (15, 15), (7, 7), 1, 1)[5:10, 5:10].sum()) > 0


def test_a_leak_is_found() -> None:
    """Planted: a branch whose pooling does not take the row above along sees below itself."""
    network = build("shifted", own_row=True, hole=1, channels=1)

    class Leaky(HalfPlaneConv):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(nn.functional.pad(x, (0, 0, 0, 1))[..., 1:, :])

    assert isinstance(network, ShiftedBlindSpot)
    network.branch.down[0] = Leaky(4, 4).double()
    assert float(influence(network, (12, 12), (6, 6), 1, 1)[6, 6]) > 0


def test_half_plane_looks_up_only() -> None:
    torch.manual_seed(0)
    branch = HalfPlaneUNet(1, width=4, depth=3).double()
    x = torch.rand(1, 1, 21, 13, dtype=torch.float64, requires_grad=True)
    for row in range(21):
        (gradient,) = torch.autograd.grad(branch(x)[0, :, row].sum(), x)
        assert float(gradient[0, 0, row + 1 :].abs().sum()) == 0.0
        assert float(gradient[0, 0, row].abs().sum()) > 0.0


def test_masked_lattices_cover_every_pixel_once() -> None:
    network = MaskedBlindSpot(MaskedConfig(in_channels=1, context_channels=1, out_channels=1, width=4, spacing=3))
    like = torch.zeros(1, 1, 10, 8)
    total = sum(network.centres(k, like).int() for k in range(network.config.lattices))
    assert torch.equal(torch.as_tensor(total), torch.ones(1, 1, 10, 8, dtype=torch.int32))


def test_refusals() -> None:
    with pytest.raises(ValueError, match="odd side of at least 1 pixel, not 2"):
        ShiftedConfig(1, 1, 1, hole=2)
    with pytest.raises(ValueError, match="rotations is 4"):
        ShiftedConfig(1, 1, 1, rotations=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="lead back into"):
        DilatedConfig(1, 1, 1, hole=3, kernels=(3,))
    with pytest.raises(ValueError, match="odd side of at least 3"):
        visible_taps(4, hole=1, own_row=True)
    with pytest.raises(ValueError, match="leave nothing to see"):
        MaskedConfig(1, 1, 1, hole=5, spacing=4)
    with pytest.raises(ValueError, match="width must be at least 1"):
        ShiftedConfig(1, 1, 1, width=0)
    network = MaskedBlindSpot(MaskedConfig(1, 1, 1, width=4))
    with pytest.raises(ValueError, match="lattices is empty"):
        network(torch.rand(1, 1, 8, 8), torch.rand(1, 1, 8, 8), lattices=())
