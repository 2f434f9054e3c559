"""Comparing pictures: numbers whose truth is known, on every colour filter array, and what cannot be compared."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from noise_models.cfa import QUAD_BAYER_ROWS, XTRANS_ROWS, Cfa, pack
from noise_models.errors import ProfileError
from noise_models.profile import CameraProfile
from physrestore.compare import compare, known_noise, pair_up
from physrestore.compare.lattice import Lattice
from physrestore.compare.sheet import largest_difference
from physrestore.compare.whiteness import plane_whiteness
from physrestore.errors import CompareError
from physrestore.output.preview import Place
from physrestore.quality import residual_correlation
from tests.physrestore.compared_pictures import (
    BLACK,
    GAIN,
    READ_DN,
    WHITE,
    of_colours,
    of_frame,
    photo,
    ramp_scene,
    sensor_noise,
)

XTRANS, QUAD = "".join(XTRANS_ROWS), "".join(QUAD_BAYER_ROWS)
ARRAYS = ["RGGB", "GBRG", "M", QUAD, XTRANS]


def white_noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_planes_of_a_lattice_are_those_of_the_array() -> None:
    mosaic = white_noise(1, 24, 36)
    packed = pack(mosaic[None], Cfa.parse("GBRG"))[0]
    assert torch.equal(Lattice.of(Cfa.parse("GBRG")).means(mosaic), packed)
    assert not torch.equal(Lattice.of(Cfa.parse("RGGB")).means(mosaic), packed)


@pytest.mark.parametrize("cfa", [*ARRAYS, None])
def test_what_is_spread_over_the_sites_comes_back_as_means(cfa: str | None) -> None:
    lattice = Lattice.of(None if cfa is None else Cfa.parse(cfa))
    planes = white_noise(len(lattice.names), 4, 6)
    sites = lattice.spread(planes)
    assert sites.shape == (3 if cfa is None else 1, 4 * lattice.period[0], 6 * lattice.period[1])
    assert torch.allclose(lattice.means(sites), planes)


def test_whiteness_of_bayer_planes_is_that_of_the_packed_planes() -> None:
    residual = F.avg_pool2d(white_noise(1, 131, 131), 4, 1)
    inside = torch.rand(64, 64, generator=torch.Generator().manual_seed(1)) < 0.7
    lattice = Lattice.of(Cfa.parse("GRBG"))
    sites = lattice.spread(inside.expand(4, -1, -1))

    wanted = residual_correlation(pack(residual[None], Cfa.parse("GRBG"))[0], inside)

    for index in range(4):
        got = plane_whiteness(residual, sites, lattice, index)
        assert got is not None
        assert got.horizontal == pytest.approx(wanted.horizontal[index], abs=1e-9)
        assert got.vertical == pytest.approx(wanted.vertical[index], abs=1e-9)
        # One weighs both diagonals by their pairs, the other equally.
        assert got.diagonal == pytest.approx(wanted.diagonal[index], abs=1e-3)


@pytest.mark.parametrize("cfa", [*ARRAYS, None])
def test_white_is_white_and_smeared_is_not(cfa: str | None) -> None:
    lattice = Lattice.of(None if cfa is None else Cfa.parse(cfa))
    channels = 3 if cfa is None else 1
    noise = white_noise(channels, 192, 196)
    smeared = F.avg_pool2d(noise, (1, 5), 1)  # sites d apart in a row share 5 - d of their 5 values
    everywhere = torch.ones(channels, 192, 192, dtype=torch.bool)
    # Of the nearest site of the same colour in a row.
    distance = {"M": 1, None: 1, QUAD: 1}.get(cfa, 2)
    for index, name in enumerate(lattice.names):
        own = 1 if (cfa, name) == (XTRANS, "G") else distance
        white = plane_whiteness(noise[..., :192], everywhere, lattice, index)
        grey = plane_whiteness(smeared, everywhere, lattice, index)
        assert white is not None
        assert grey is not None
        limit = 5 * white.standard_error
        assert max(map(abs, (white.horizontal, white.vertical, white.diagonal))) < limit
        assert grey.horizontal == pytest.approx(1 - own / 5, abs=0.1)
        # Rows stay independent; smearing leaves a fifth of the independent values.
        assert abs(grey.vertical) < limit * math.sqrt(5)


def test_nothing_that_varies_has_no_whiteness() -> None:
    lattice = Lattice.of(Cfa.parse("RGGB"))
    flat, everywhere = torch.zeros(1, 32, 32), torch.ones(1, 32, 32, dtype=torch.bool)
    assert plane_whiteness(flat, everywhere, lattice, 0) is None
    assert plane_whiteness(white_noise(1, 32, 32), ~everywhere, lattice, 0) is None


@pytest.mark.parametrize("cfa", ARRAYS)
def test_a_photo_less_its_truth_is_exactly_its_noise(cfa: str) -> None:
    scene = ramp_scene(388, 390)  # sides that neither 4 nor 6 divides
    scene = scene.mean(0, keepdim=True).expand(3, -1, -1) if cfa == "M" else scene
    pair = pair_up(of_frame(photo(scene, cfa)), of_colours(scene))

    found = compare(pair, sensor_noise(cfa))

    assert found.in_noise
    assert found.white_dn == WHITE - BLACK
    assert found.smooth_share > 0.9
    assert (found.clipped, found.unclipped, found.newly_clipped) == (0, 0, 0)
    variance = GAIN * float(scene.mean()) * found.white_dn + READ_DN**2
    for plane in found.planes:
        error = 1 / math.sqrt(2 * plane.sites)
        assert plane.over_noise == pytest.approx(1.0, abs=5 * error)
        assert plane.over_noise_smooth == pytest.approx(1.0, abs=6 * error)
        assert plane.mean_dn == pytest.approx(0.0, abs=5 * math.sqrt(2 * variance / plane.sites))
        assert plane.large_changes == pytest.approx(0.0027, abs=5 * math.sqrt(0.0027 / plane.sites) + 5e-4)
        white = plane.whiteness
        assert white is not None
        assert max(map(abs, (white.horizontal, white.vertical, white.diagonal))) < 5 * white.standard_error


def test_planted_faults_show_in_the_number_that_is_for_them() -> None:
    scene = ramp_scene(256, 256)
    frame = photo(scene)
    source, noise = of_frame(frame), sensor_noise()
    truth = compare(pair_up(source, of_colours(scene)), noise)

    brighter = scene.clone()
    brighter[1] += 5.0 / (WHITE - BLACK)
    shifted = compare(pair_up(source, of_colours(brighter)), noise)
    assert [round(plane.mean_dn or 0.0) for plane in shifted.planes] == [0, 5, 5, 0]

    # Half of the noise, smeared over neighbours, is still in the picture: what was removed is not white.
    left = F.avg_pool2d(F.pad(frame.linear() - of_colours(scene).values(frame.cfa), (4, 4, 4, 4), mode="reflect"), 9, 1)
    kept = frame.linear() - 0.5 * left * 9
    blurred = replace(frame, mosaic=(kept[0, 0].double().numpy() * (WHITE - BLACK) + BLACK).round().astype(np.uint16))
    removed = compare(pair_up(source, of_frame(blurred)), noise)
    assert all((plane.whiteness is not None and plane.whiteness.horizontal > 0.5) for plane in removed.planes)

    doubted = compare(pair_up(source, of_colours(scene)), sensor_noise(gain=2 * GAIN))
    for plane, told_wrong in zip(truth.planes, doubted.planes, strict=True):
        assert plane.over_noise is not None
        assert told_wrong.over_noise is not None
        assert told_wrong.over_noise < 0.8 * plane.over_noise

    lost = scene.clone()
    lost[..., :64] += 0.2
    for plane in compare(pair_up(source, of_colours(lost)), noise).planes:
        assert plane.large_changes == pytest.approx(0.25, abs=0.01)


def test_psnr_is_of_linear_light_with_white_at_one() -> None:
    scene = ramp_scene(64, 64)
    found = compare(pair_up(of_colours(scene), of_colours(scene + 0.01)))
    assert found.psnr_db == pytest.approx(40.0, abs=1e-3)
    assert [plane.psnr_db for plane in found.planes] == pytest.approx([40.0] * 3, abs=1e-3)
    assert [plane.mean_dn for plane in found.planes] == pytest.approx([655.35] * 3, rel=1e-4)


def test_a_picture_and_itself() -> None:
    picture = of_frame(photo(ramp_scene(64, 64)))
    found = compare(pair_up(picture, picture), sensor_noise())
    assert found.psnr_db == math.inf
    for plane in found.planes:
        assert (plane.mean_dn, plane.over_noise, plane.large_changes, plane.whiteness) == (0.0, 0.0, 0.0, None)


def test_without_a_known_noise_only_shape_is_judged() -> None:
    scene = ramp_scene(256, 256)
    found = compare(pair_up(of_frame(photo(scene)), of_colours(scene)))
    assert not found.in_noise
    for plane in found.planes:
        assert (plane.over_noise, plane.over_noise_smooth, plane.large_changes) == (None, None, None)
        assert plane.whiteness is not None
        assert abs(plane.whiteness.horizontal) < 5 * plane.whiteness.standard_error


def test_clipped_sites_are_counted_and_left_out() -> None:
    scene = torch.full((3, 64, 64), 0.2)
    before = of_colours(scene.clone())
    assert before.rgb is not None
    before.rgb[:, :8, :8] = 1.0
    after = of_colours(scene.clone())
    assert after.rgb is not None
    after.rgb[:, :4, :8] = 1.0  # half of the highlight is kept
    after.rgb[:, 32, 32] = 1.0
    found = compare(pair_up(before, after))
    assert (found.clipped, found.unclipped, found.newly_clipped) == (3 * 64, 3 * 32, 3)
    assert found.psnr_db == math.inf
    assert all(plane.sites == 64 * 64 - 64 - 1 for plane in found.planes)


def test_pictures_of_other_sizes_or_arrays_are_refused() -> None:
    small, large = of_frame(photo(ramp_scene(64, 64)), "a.dng"), of_frame(photo(ramp_scene(64, 66)), "b.dng")
    with pytest.raises(CompareError, match=r"'a.dng' has 64 x 64 pixels and 'b.dng' has 66 x 64 pixels.*--scale 2"):
        pair_up(small, large)
    other = of_frame(photo(ramp_scene(64, 64), "GRBG"), "c.dng")
    with pytest.raises(CompareError, match=r"'a.dng' has RGGB and 'c.dng' has GRBG.*one array"):
        pair_up(small, other)
    with pytest.raises(CompareError, match="smaller than one period"):
        pair_up(of_frame(photo(ramp_scene(5, 9), XTRANS)), of_colours(ramp_scene(5, 9)))


def test_the_noise_is_that_of_the_frame_as_recorded() -> None:
    profile = CameraProfile(make="Test", model="Test One", cfa="RGGB", entries=(sensor_noise(),))
    recorded = photo(ramp_scene(64, 64))
    restored = of_frame(replace(recorded, noise_profile=((1e-9, 1e-9),)), "r.dng", {"tool": "physrestore"})
    stated = of_frame(replace(recorded, noise_profile=((5e-4, 1e-6),) * 3), "s.dng")

    chosen, reasons = known_noise([restored, stated])
    assert chosen is not None
    assert chosen.trust == "stated"
    assert chosen.noise.planes["R"].gain is not None
    assert chosen.noise.planes["R"].gain.value == pytest.approx(5e-4 * (WHITE - BLACK), rel=1e-6)
    assert reasons == ()

    chosen, reasons = known_noise([restored])  # what is left in a restored file is no yardstick
    assert chosen is None
    assert "r.dng" in reasons[0]
    chosen, _ = known_noise([restored], given=profile)
    assert chosen is not None
    assert chosen.trust == "calibrated"
    assert known_noise([of_colours(ramp_scene(64, 64))]) == (None, ("No file is a mosaic as a camera records it.",))
    with pytest.raises(ProfileError, match="never borrowed"):
        known_noise([stated], given=profile.model_copy(update={"model": "Other"}))


def test_the_largest_difference_is_found_and_keeps_clear_of_other_places() -> None:
    quiet, planted = torch.zeros(1, 240, 360), torch.zeros(1, 240, 360)
    planted[:, 130:150, 290:310] = 9.0
    planted[:, 20:30, 20:30] = 6.0
    place = largest_difference([quiet, planted], 48)
    top, left, height, width = place.region
    assert (height, width) == (48, 48)
    assert top <= 130
    assert top + height >= 150
    assert left <= 290
    assert left + width >= 310
    second = largest_difference([quiet, planted], 48, [Place("taken", place.region)])
    assert second.region[0] <= 20
    assert second.region[1] <= 20
    # Much noise is no trace of the picture, a faint one that goes on is.
    faint = white_noise(1, 240, 360)
    faint[:, :, 240:] *= 0.2
    faint[:, 100:140, 280:320] += 0.7
    assert largest_difference([faint], 48).region[1] > 200
    tiny = torch.zeros(1, 10, 40)
    tiny[:, :, 28:32] = 5.0
    _, left, height, width = largest_difference([tiny], 8).region
    assert (height, width) == (8, 8)
    assert 20 < left <= 28
    # Where there is no room it overlaps rather than fail.
    assert largest_difference([planted], 48, [Place("taken", (0, 0, 240, 360))]) == place
