from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from noise_models.calibration.photo.block_energies import BAND_SIZE, block_energies
from noise_models.calibration.photo.single_photo import NotIdentifiable, PhotoEstimate, estimate_from_frame
from noise_models.cfa import XTRANS_ROWS, Cfa
from noise_models.errors import ProfileError
from noise_models.frame import RawFrame
from noise_models.rawfile import read_raw
from noise_models.sensor import Estimate
from tests.noise_models.photo_scenes import coloured, photograph, picture, power_law_scene
from tests.shared_data import shared

XTRANS = "".join(XTRANS_ROWS)
RGGB = Cfa.parse("RGGB")
SHAPE = (768, 1152)


def smooth_photo(seed: int = 1, *, cfa: str = "RGGB", mean: float = 300.0, **camera: float | bool | None) -> RawFrame:
    scene = coloured(power_law_scene(4, SHAPE, mean=mean, seed=seed), Cfa.parse(cfa))
    settings = {"gain": 0.5, "read_dn": 3.0} | camera
    return photograph(scene, cfa=cfa, seed=seed + 100, **settings)  # type: ignore[arg-type]


def gain_of(result: PhotoEstimate) -> Estimate:
    gain = next(iter(result.noise.planes.values())).gain
    assert gain is not None
    return gain


def sigmas(estimate: Estimate | None, truth: float) -> float:
    assert estimate is not None
    assert estimate.standard_error is not None
    return (estimate.value - truth) / estimate.standard_error


def answer(frame: RawFrame) -> PhotoEstimate | NotIdentifiable:
    try:
        return estimate_from_frame(frame)
    except NotIdentifiable as refused:
        return refused


def test_white_noise_has_the_same_energy_in_every_band() -> None:
    rng = np.random.default_rng(0)
    mosaic = np.rint(rng.normal(1000, 10, (512, 768))).astype(np.uint16)
    blocks = block_energies(mosaic, RGGB, np.full((2, 2), 100.0), np.full((2, 2), 4095.0))
    assert blocks.shape == (4, 32 * 48)
    assert blocks.mean.mean() == pytest.approx(900, abs=0.1)
    for band, size in BAND_SIZE.items():
        error = 100 * np.sqrt(2 / (size * 4 * 32 * 48))
        assert abs(getattr(blocks, band).mean() - 100 - 1 / 12) < 5 * error
    assert blocks.unclipped.all()


def test_row_noise_does_not_enter_the_bands() -> None:
    rng = np.random.default_rng(0)
    rows = np.rint(1000 + rng.normal(0, 50, (512, 1)) + np.zeros((1, 768))).astype(np.uint16)
    blocks = block_energies(rows, RGGB, np.full((2, 2), 100.0), np.full((2, 2), 4095.0))
    assert max(getattr(blocks, band).max() for band in BAND_SIZE) < 1e-3
    assert np.mean(blocks.row_waves**2) == pytest.approx(8 * 50**2, rel=0.3)


def test_clipped_and_black_blocks_are_marked() -> None:
    rng = np.random.default_rng(0)
    mosaic = np.rint(rng.normal(1000, 10, (64, 64))).astype(np.uint16)
    mosaic[:16, :16], mosaic[16:32, :16], mosaic[40, 40] = 4095, 0, 4095
    mosaic[48:, 48:] += 3065  # mean 4065, within four sigmas of white without touching it
    blocks = block_energies(mosaic, RGGB, np.zeros((2, 2)), np.full((2, 2), 4095.0))
    assert mosaic[48:, 48:].max() < 4095
    assert (~blocks.unclipped).nonzero()[0].tolist() == [0, 4, 10, 15]
    assert (~blocks.linear).any(axis=0).nonzero()[0].tolist() == [0, 15]


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize(("gain", "read"), [(0.1, 1.0), (0.5, 6.0), (4.0, 3.0)])
def test_a_defocused_photo_determines_its_noise(gain: float, read: float, masked: bool) -> None:
    result = estimate_from_frame(smooth_photo(gain=gain, read_dn=read, masked=masked, mean=600.0))
    assert result.trust in ("good", "fair")
    assert gain_of(result).value == pytest.approx(gain, rel=0.1)
    plane = result.noise.planes["G1"]
    assert abs(sigmas(plane.read_noise_dn, read)) < 3
    assert (plane.black_level_dn.standard_error is not None) is masked
    assert result.noise.origin == "estimated"
    assert result.evidence.used_masked_noise is masked


def test_twice_the_gain_is_seen_as_twice_the_gain() -> None:
    """The planted error: an estimator that reports the scene or a habit instead of the noise fails here."""
    one, two = (gain_of(estimate_from_frame(smooth_photo(gain=gain))) for gain in (0.5, 1.0))
    assert two.value / one.value == pytest.approx(2.0, rel=0.08)


@pytest.mark.parametrize("cfa", [XTRANS, "M", "GBRG"])
def test_other_filter_arrays(cfa: str) -> None:
    result = estimate_from_frame(smooth_photo(cfa=cfa, mean=600.0))
    assert set(result.noise.planes) == set(Cfa.parse(cfa).plane_names)
    assert gain_of(result).value == pytest.approx(0.5, rel=0.12)


def test_smooth_scenes_are_right_within_their_intervals() -> None:
    """1/f^3: textured by a third of the noise's variance where it is not dark."""
    scenes = [coloured(power_law_scene(3, SHAPE, mean=60.0, seed=seed), RGGB) for seed in range(6)]
    answers = [answer(photograph(scene, gain=4.0, read_dn=4.0, seed=5)) for scene in scenes]
    assert all((bound.gain_upper or 0) > 4.0 for bound in answers if isinstance(bound, NotIdentifiable))
    results = [gain_of(result) for result in answers if isinstance(result, PhotoEstimate)]
    assert len(results) >= 4
    assert np.median([abs(gain.value / 4 - 1) for gain in results]) < 0.15
    assert all(abs(sigmas(gain, 4.0)) < 2.5 for gain in results)


@pytest.mark.parametrize(("beta", "mean"), [(2.0, 300.0), (2.5, 500.0)])
def test_textured_scenes_are_refused_with_a_bound_that_holds(beta: float, mean: float) -> None:
    scene = coloured(power_law_scene(beta, SHAPE, mean=mean, seed=3), RGGB)
    with pytest.raises(NotIdentifiable, match=r"does not determine its noise.*K is below") as refusal:
        estimate_from_frame(photograph(scene, gain=0.5, read_dn=3.0, seed=4))
    error = refusal.value
    assert error.reasons
    assert error.gain_upper is not None
    assert error.gain_upper > 0.5
    assert error.read_noise_upper_dn is not None
    assert error.read_noise_upper_dn > 3.0
    assert error.optical_black is not None
    assert error.optical_black.read_noise_dn.value == pytest.approx(3.0, rel=0.05)


def test_the_same_texture_is_no_obstacle_where_noise_is_far_above_it() -> None:
    """The counterpart of the refusal: it is the texture that is refused, not the scene's statistics."""
    scene = coloured(power_law_scene(2.5, SHAPE, mean=12.0, seed=3), RGGB)
    result = estimate_from_frame(photograph(scene, gain=20.0, read_dn=4.0, seed=4))
    assert abs(sigmas(gain_of(result), 20.0)) < 2.5


def test_a_clipped_photo_is_refused() -> None:
    frame = smooth_photo()
    white = dataclasses.replace(frame, mosaic=np.full(SHAPE, 16383, np.uint16))
    with pytest.raises(NotIdentifiable, match="only 0 of its blocks keep clear of clipping") as refusal:
        estimate_from_frame(white)
    assert refusal.value.gain_upper is None


def test_a_small_photo_is_refused() -> None:
    frame = smooth_photo()
    small = dataclasses.replace(frame, mosaic=frame.mosaic[:256, :256].copy(), masked=())
    with pytest.raises(NotIdentifiable, match="only 1024 of its blocks"):
        estimate_from_frame(small)


def test_masked_pixels_noisier_than_the_image_do_not_count() -> None:
    frame = smooth_photo()
    noise = np.random.default_rng(5).normal(0, 9, frame.masked[0].pixels.shape)
    area = dataclasses.replace(frame.masked[0], pixels=np.rint(frame.masked[0].pixels + noise).astype(np.uint16))
    result = estimate_from_frame(dataclasses.replace(frame, masked=(area,)))
    assert not result.evidence.used_masked_noise
    assert any("masked pixels are noisier" in reason for reason in result.reasons)
    assert abs(sigmas(result.noise.planes["R"].read_noise_dn, 3.0)) < 3


def test_row_noise_is_seen_without_masked_pixels() -> None:
    with_rows, without = (
        estimate_from_frame(smooth_photo(masked=False, row_dn=row)).noise.row_noise_dn for row in (1.5, 0.0)
    )
    assert with_rows.value == pytest.approx(1.5, rel=0.1)
    assert without.value < 0.5


def test_a_plane_scaled_by_the_camera_keeps_its_own_gain() -> None:
    scene = coloured(power_law_scene(4, SHAPE, mean=600.0, seed=6), RGGB)
    gain = np.where(RGGB.plane_index(*SHAPE).numpy() == 0, 0.8, 0.5)
    rng = np.random.default_rng(7)
    codes = np.rint(gain * rng.poisson(scene) + 512 + rng.normal(0, 3, SHAPE)).astype(np.uint16)
    frame = dataclasses.replace(smooth_photo(masked=False), mosaic=codes)
    result = estimate_from_frame(frame)
    red, green = (result.noise.planes[name].gain for name in ("R", "G1"))
    assert abs(sigmas(red, 0.8)) < 2.5
    assert abs(sigmas(green, 0.5)) < 2.5
    assert any("Planes do not share one K" in reason for reason in result.reasons)


def test_the_iso_is_never_invented() -> None:
    noise = estimate_from_frame(smooth_photo(iso=None)).noise
    assert noise.iso is None
    with pytest.raises(ProfileError, match="does not state its ISO"):
        _ = noise.setting


def test_evidence_draws_the_plot() -> None:
    evidence = estimate_from_frame(smooth_photo()).evidence
    bins = evidence.bins
    length = {bins.plane.size, bins.mean.size, bins.variance.size, bins.smooth.size, evidence.variance_error.size}
    assert len(length) == 1
    on_line = evidence.law.noise(bins.mean) + evidence.law.texture * bins.mean**2
    pull = ((bins.variance - on_line) / evidence.variance_error)[bins.smooth]
    assert np.mean(pull**2) < 3


@pytest.mark.data
def test_pictures_at_low_light() -> None:
    """Scanned film is grainy: errors to +20 % are its own; intervals must still cover."""
    paths = sorted(shared("sets/kodak24").iterdir())[::3]
    answers = [answer(photograph(picture(path, mean=60.0), gain=2.0, read_dn=3.0, seed=1)) for path in paths]
    assert all((bound.gain_upper or 9) > 2.0 for bound in answers if isinstance(bound, NotIdentifiable))
    inside = [abs(sigmas(gain_of(result), 2.0)) < 1.96 for result in answers if isinstance(result, PhotoEstimate)]
    assert len(inside) >= 4
    assert sum(inside) >= len(inside) - 1


@pytest.mark.data
def test_canon_30d_gain_follows_iso() -> None:
    """A 12-bit 30D has a full well of about 50 ke-, 0.08 DN/e- at ISO 100; its ISO 640 is nominally 6.4 times that."""
    gains = {}
    for iso in (100, 640):
        result = estimate_from_frame(read_raw(shared(f"raw/canon_30d_iso{iso}.CR2")))
        assert result.trust == "good"
        gains[iso] = gain_of(result).value
    assert 0.065 < gains[100] < 0.1
    assert gains[640] / gains[100] == pytest.approx(6.4, rel=0.12)
