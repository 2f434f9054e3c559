"""Patches of real darks keep what a sensor does: the place of every site, its rows, its variance."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from noise_models.cfa import BAYER_PHASES, Cfa, pack, plane_mask, unpack
from noise_models.errors import CalibrationError, ProfileError
from noise_models.frame import RawFrame, Shot
from noise_models.sampling.dark_library import DarkLibrary, rounding_error
from noise_models.sampling.laws import ProfileLaw, WidePrior
from noise_models.sampling.sampler import NoiseSampler
from noise_models.sensor import QUANTISATION_VARIANCE_DN2
from tests.moments import assert_moments
from tests.noise_models.noise_profiles import entry, generator, profile

RGGB = Cfa.parse("RGGB")
SITE_OFFSETS = {"R": 0.0, "G1": 10.0, "G2": 20.0, "B": 30.0}  # [DN]: the planted phase pattern
SIZE = (256, 320)


def dark(
    seed: int, *, std: float = 3.0, row: float = 0.0, iso: float | None = 800.0, fixed: float = 0.0, clamp: int = 0
) -> RawFrame:
    """A numpy dark of an RGGB sensor with the planted pattern; ``fixed`` is the same in every frame."""
    rng = np.random.default_rng(seed)
    site = np.tile([[SITE_OFFSETS["R"], SITE_OFFSETS["G1"]], [SITE_OFFSETS["G2"], SITE_OFFSETS["B"]]], (128, 160))
    value = 512.0 + site + std * rng.standard_normal(SIZE) + row * rng.standard_normal((SIZE[0], 1))
    value += fixed * np.random.default_rng(99).standard_normal(SIZE)
    return RawFrame(
        mosaic=np.maximum(np.rint(value), clamp).astype(np.uint16),
        cfa=RGGB,
        black_level=np.full((2, 2), 512.0),
        white_level=np.full((2, 2), 4095.0),
        shot=Shot(iso=iso),
    )


def assert_phase(patches: Tensor, cfa: Cfa) -> None:
    """Every plane has its planted offset."""
    for plane, offset in SITE_OFFSETS.items():
        assert_moments(patches[plane_mask(cfa, plane, patches).expand_as(patches)], mean=offset)


@pytest.mark.parametrize("name", BAYER_PHASES)
def test_every_site_gets_the_noise_of_its_own_kind_of_site(name: str) -> None:
    cfa = Cfa.parse(name)
    patches = DarkLibrary([dark(0), dark(1)]).patches([800.0] * 8, (50, 62), cfa=cfa, generator=generator())

    assert patches.shape == (8, 1, 50, 62)
    assert_phase(patches, cfa)
    assert_phase(unpack(pack(patches, cfa), cfa), cfa)


def test_a_crop_of_the_wrong_phase_is_caught() -> None:
    library = DarkLibrary([dark(0), dark(1)])
    with pytest.raises(CalibrationError, match=r"at row 3, column 0 of 256x320 RGGB darks is no RGGB patch"):
        library.patches([800.0], (16, 16), cfa=RGGB, generator=generator(), corners=torch.tensor([[3, 0]]))

    shifted = library.patches([800.0], (64, 64), cfa=RGGB.shifted(0, 1), generator=generator())
    with pytest.raises(AssertionError, match="mean"):
        assert_phase(shifted, RGGB)  # the planted error: the crop of one phase used for another


def test_corners_give_the_same_place_of_the_sensor() -> None:
    library = DarkLibrary([dark(0, std=1.0, fixed=30.0), dark(1, std=1.0, fixed=30.0)])
    pattern = 30.0 * np.random.default_rng(99).standard_normal(SIZE)
    corners = torch.tensor([[10, 20], [101, 33]])
    for corner in corners:
        cfa = RGGB.shifted(*corner.tolist())
        patch = library.patches([800.0], (40, 40), cfa=cfa, generator=generator(), corners=corner[None])[0, 0]
        top, left = corner.tolist()
        fixed = pattern[top : top + 40, left : left + 40]

        assert np.corrcoef(fixed.ravel(), patch.numpy().ravel())[0, 1] > 0.9


def test_rows_stay_rows() -> None:
    library = DarkLibrary([dark(seed, std=2.0, row=5.0) for seed in range(4)], subtract="plane_mean")
    patches = library.patches([800.0] * 20, (64, 128), cfa=RGGB, generator=generator())

    rows = patches.mean(dim=3).var(dim=2).mean()
    columns = patches.mean(dim=2).var(dim=2).mean()
    # Patches overlap, so there are 4 x 256 different rows; the variance of a normal sample has error sqrt(2 / n).
    assert abs(float(rows) / (25.0 + 4.08 / 128) - 1) < 5 * np.sqrt(2 / 1024)
    assert float(columns) < 1.0


@pytest.mark.parametrize(("std", "phase"), [(0.6, 0.0), (0.6, 0.5), (0.8, 0.3), (3.0, 0.25)])
def test_undone_rounding_leaves_the_variance_before_it(std: float, phase: float) -> None:
    values = phase + std * torch.randn(1_000_000, generator=generator(1), dtype=torch.float64)
    codes = values.round()
    centre, spread = torch.tensor(phase).double(), torch.tensor(std).double()

    undone = codes + rounding_error(codes, centre, spread, generator=generator())

    assert_moments(undone, mean=phase, variance=std**2)
    uniform = codes + torch.rand(codes.shape, generator=generator(), dtype=torch.float64) - 0.5
    with pytest.raises(AssertionError, match="variance"):  # the planted error: a uniform dither adds 1/6 DN^2
        assert_moments(uniform, variance=std**2)


@pytest.mark.parametrize("std", [0.7, 3.0])
def test_a_library_measures_the_spread_itself_hot_sites_or_not(std: float) -> None:
    frames = [dark(seed, std=std) for seed in range(3)]
    hot = []
    for frame in frames:
        mosaic = frame.mosaic.copy()
        mosaic[::32, ::32] = 4000
        hot.append(RawFrame(mosaic, RGGB, frame.black_level, frame.white_level, shot=frame.shot))
    for darks in (frames, hot):
        patches = DarkLibrary(darks, subtract="plane_mean").patches(
            [800.0] * 3, SIZE, cfa=RGGB, generator=generator(), corners=torch.zeros(3, 2, dtype=torch.int64)
        )
        # Twice the same frame in three draws is likely: the sample is one frame's.
        calm = patches[0][patches[0].abs() < 100.0]
        assert_moments(calm - calm.mean(), variance=std**2, resolution=0.02)


def test_the_mean_frame_takes_the_fixed_pattern_and_leaves_the_temporal_variance() -> None:
    darks = [dark(seed, std=4.0, fixed=20.0) for seed in range(3)]
    corner = torch.zeros(1, 2, dtype=torch.int64)
    left = DarkLibrary(darks, subtract="mean_frame").patches(
        [800.0], SIZE, cfa=RGGB, generator=generator(), corners=corner
    )
    kept = DarkLibrary(darks, subtract="level").patches([800.0], SIZE, cfa=RGGB, generator=generator(), corners=corner)

    # The rounding errors of three frames are in the mean, for one of them the Gaussian one is taken out.
    assert_moments(left, mean=0.0, variance=16.0, resolution=2 * QUANTISATION_VARIANCE_DN2 / 16.0)
    assert float(kept.std()) > 20.0


def test_darks_in_a_folder_are_mapped_and_give_the_same_patches(tmp_path: Path) -> None:
    frames = [dark(0), dark(1, iso=1600.0), dark(2)]
    in_memory = DarkLibrary(frames)
    in_files = DarkLibrary((frame for frame in frames), folder=tmp_path)
    arguments = ([800.0, 1600.0], (32, 32))

    patches = [
        library.patches(*arguments, cfa=RGGB, generator=generator(4))
        for library in (in_memory, in_files, pickle.loads(pickle.dumps(in_files)))
    ]

    assert in_files.isos == (800.0, 1600.0)
    assert len(list(tmp_path.glob("*.npy"))) == 3
    assert torch.equal(patches[0], patches[1])
    assert torch.equal(patches[0], patches[2])
    assert len(pickle.dumps(in_files)) < 10_000  # no pixels travel to a worker


@pytest.mark.parametrize("reparametrised", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_images_with_real_darks_have_poisson_noise_and_that_of_the_darks(packed: bool, reparametrised: bool) -> None:
    noise = entry(800.0, prnu=0.0)
    library = DarkLibrary([dark(seed, std=2.0) for seed in range(8)])
    sampler = NoiseSampler(ProfileLaw(profile(noise)), darks=library, reparametrised=reparametrised)
    cfa = Cfa.parse("GBRG")
    clean = torch.full((4, 1, 200, 200), 0.2)

    batch = sampler.sample(pack(clean, cfa) if packed else clean, cfa=cfa, generator=generator())

    noisy = unpack(batch.noisy, cfa) if packed else batch.noisy
    for plane, values in noise.planes.items():
        scale, gain = 4095.0 - values.black_level_dn.value, values.gain
        assert gain is not None
        sites = noisy[plane_mask(cfa, plane, noisy).expand_as(noisy)]
        variance = gain.value * 0.2 * scale + 4.0 + QUANTISATION_VARIANCE_DN2
        assert_moments(sites * scale, mean=0.2 * scale + SITE_OFFSETS[plane], variance=variance, resolution=0.001)


def test_a_law_and_darks_of_different_isos_do_not_meet() -> None:
    library = DarkLibrary([dark(0)])
    with pytest.raises(ProfileError, match="this one draws ISO 1600"):
        profile(entry(800.0), entry(1600.0)).sampler(darks=library)
    with pytest.raises(ProfileError, match="this one draws no ISO"):
        NoiseSampler(WidePrior(), darks=library)
    with pytest.raises(CalibrationError, match="no darks of ISO 100, only of 800"):
        library.patches([100.0], (8, 8), cfa=RGGB, generator=generator())
    assert profile(entry(800.0), entry(1600.0)).sampler(isos=[800.0], darks=library).darks is library


def test_darks_that_cannot_serve_are_refused() -> None:
    with pytest.raises(CalibrationError, match="there are none"):
        DarkLibrary([])
    with pytest.raises(CalibrationError, match="Dark 2 states no ISO"):
        DarkLibrary([dark(0), dark(1, iso=None)])
    with pytest.raises(CalibrationError, match=r"33 % of dark 1 have its lowest code, 520: the camera clamps"):
        DarkLibrary([dark(0, clamp=520)])
    with pytest.raises(CalibrationError, match=r"vary by less than 0\.4 DN"):
        DarkLibrary([dark(0, std=0.35)])
    with pytest.raises(CalibrationError, match="mean frame needs 2 darks"):
        DarkLibrary([dark(0)], subtract="mean_frame")
    small = RawFrame(dark(0).mosaic[:64].copy(), RGGB, np.full((2, 2), 512.0), np.full((2, 2), 4095.0))
    small = RawFrame(small.mosaic, RGGB, small.black_level, small.white_level, shot=Shot(iso=400.0))
    with pytest.raises(CalibrationError, match=r"Dark 2 is RGGB \(64, 320\), those before"):
        DarkLibrary([dark(0), small])
    with pytest.raises(CalibrationError, match="hold no GRBG patch of 256x320"):
        DarkLibrary([dark(0)]).patches([800.0], SIZE, cfa=Cfa.parse("GRBG"), generator=generator())
