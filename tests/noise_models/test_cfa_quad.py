"""Quad-Bayer: 16 shifts with the planes of a Bayer array, and no packed form."""

from __future__ import annotations

import pytest
import torch

from noise_models.cfa import BAYER_PLANES, QUAD_BAYER_ROWS, Cfa, pack, plane_mask
from noise_models.errors import CfaError

QUAD = Cfa(QUAD_BAYER_ROWS)


def test_every_crop_of_quad_bayer_is_an_array_of_its_own() -> None:
    shifts = {QUAD.shifted(i, j) for i in range(4) for j in range(4)}

    assert len(shifts) == 16
    assert all(cfa.is_quad_bayer and not cfa.is_bayer and not cfa.is_xtrans for cfa in shifts)
    assert all(cfa.period == (4, 4) and Cfa.parse(cfa.name) == cfa for cfa in shifts)
    assert QUAD.shifted(4, 8) == QUAD


@pytest.mark.parametrize("shift", [(0, 0), (0, 2), (2, 0), (1, 3)])
def test_planes_are_those_of_bayer_and_g1_shares_its_rows_with_red(shift: tuple[int, int]) -> None:
    cfa = QUAD.shifted(*shift)
    rows_of = {name: {i for i, _ in cfa.sites(name)} for name in BAYER_PLANES}

    assert cfa.plane_names == BAYER_PLANES
    assert all(len(cfa.sites(name)) == 4 for name in BAYER_PLANES)
    assert rows_of["G1"] == rows_of["R"]
    assert rows_of["G2"] == rows_of["B"]
    assert rows_of["R"].isdisjoint(rows_of["B"])


def test_a_shift_is_what_a_crop_sees() -> None:
    whole = plane_mask(QUAD, "G2", torch.zeros(1, 1, 11, 13))

    assert torch.equal(plane_mask(QUAD.shifted(3, 1), "G2", torch.zeros(1, 1, 8, 12)), whole[..., 3:, 1:])


def test_quad_bayer_cannot_be_packed() -> None:
    with pytest.raises(CfaError, match="Only Bayer mosaics have four packed planes; this one is 'RRGGRRGGGGBBGGBB'"):
        pack(torch.zeros(1, 1, 8, 8), QUAD)


@pytest.mark.parametrize("name", ["RRGGRRGGGGBBGGBR", "RRGGGGBBRRGGGGBB", "RGRGGBGBRGRGGBGB"])
def test_other_arrays_of_16_letters_are_refused(name: str) -> None:
    with pytest.raises(CfaError, match="quad-Bayer 4x4"):
        Cfa.parse(name)
