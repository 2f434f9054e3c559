"""Parameters of a batch come from the law that they claim."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from noise_models.cfa import Cfa
from noise_models.errors import NoProfileForIso, ProfileError
from noise_models.profile import CameraProfile
from noise_models.published import published_profiles
from noise_models.sampling.laws import MAX_RELATIVE_SPREAD, STEPS_PER_STOP, ProfileLaw, WidePrior
from noise_models.sampling.parameters import NoiseParameters
from tests.moments import assert_moments
from tests.noise_models.noise_profiles import entry, generator, profile

SONY = published_profiles()[0]
ISOS = (100.0, 400.0, 1600.0, 6400.0)


def joint(drawn: NoiseParameters, camera: CameraProfile) -> bool:
    """Whether K, read noise, row noise and tail of every image are those of one ISO."""
    assert drawn.iso is not None
    for b, iso in enumerate(drawn.iso.tolist()):
        noise = camera.at(iso)
        planes = [noise.planes[name] for name in drawn.planes]
        declared = [*(p.gain.value for p in planes if p.gain), *(p.read_noise_dn.value for p in planes)]
        declared += [noise.row_noise_dn.value, noise.tail.shape.value if noise.tail.shape else 0.0]
        given = [*drawn.gain_dn[b].tolist(), *drawn.read_noise_dn[b].tolist()]
        given += [float(drawn.row_noise_dn[b]), float(drawn.tail_shape[b])]
        if not np.allclose(declared, given, rtol=1e-12):
            return False
    return True


def test_drawn_quantities_belong_to_one_iso() -> None:
    drawn = ProfileLaw(SONY, iso_range=(100.0, 1600.0)).draw(50, generator=generator())

    assert joint(drawn, SONY)
    shuffled = replace(drawn, read_noise_dn=drawn.read_noise_dn.flip(0))  # the planted error: drawn independently
    assert not joint(shuffled, SONY)


def test_isos_of_a_range_are_log_uniform_and_avoid_the_step_of_the_conversion_gain() -> None:
    law = ProfileLaw(SONY, iso_range=(100.0, 25600.0))
    drawn = law.draw(20_000, generator=generator())
    assert drawn.iso is not None
    iso = drawn.iso.numpy()

    assert not ((iso > 1600.0) & (iso < 2000.0)).any()
    assert max(np.diff(np.log2(law.isos))) <= max(1.01 / STEPS_PER_STOP, np.log2(2000 / 1600) * 1.01)
    for low, high in ((100.0, 400.0), (400.0, 1600.0), (1600.0, 6400.0), (6400.0, 25600.0)):
        assert_moments((iso >= low) & (iso < high), mean=0.25)


def test_listed_isos_are_equally_likely() -> None:
    drawn = ProfileLaw(SONY, isos=[100.0, 100.0, 6400.0]).draw(20_000, generator=generator())
    assert drawn.iso is not None

    assert_moments(drawn.iso == 6400.0, mean=1 / 3)
    assert set(ProfileLaw(SONY).isos) == set(SONY.isos)


def test_what_the_profile_does_not_know_is_refused() -> None:
    with pytest.raises(NoProfileForIso, match="nothing about ISO 1800"):
        ProfileLaw(SONY, isos=[1800.0])
    with pytest.raises(NoProfileForIso, match="ISO 10 to 800 is no range inside ISO 50 to 25600"):
        ProfileLaw(SONY, iso_range=(10.0, 800.0))
    with pytest.raises(ValueError, match="either isos, at least one, or iso_range"):
        ProfileLaw(SONY, isos=[])
    plain = entry(800.0)
    dark_only = {name: plane.model_copy(update={"gain": None}) for name, plane in plain.planes.items()}
    with pytest.raises(ProfileError, match=r"gain of plane R at ISO 800 is unknown\. Calibrate with flats"):
        ProfileLaw(profile(plain.model_copy(update={"planes": dark_only})))
    open_end = {name: plane.model_copy(update={"saturation_dn": None}) for name, plane in plain.planes.items()}
    unknown_white = profile(plain.model_copy(update={"planes": open_end}))
    with pytest.raises(ProfileError, match=r"saturation_dn of plane R .* Give white_level"):
        ProfileLaw(unknown_white)
    assert ProfileLaw(unknown_white, white_level=1023.0).draw(1, generator=generator()).white_dn.tolist()[0][0] == 1023
    with pytest.raises(ProfileError, match="White level 400 must be above black level"):
        ProfileLaw(unknown_white, white_level=400.0)


def test_uncertainty_is_drawn_with_the_standard_errors_on_demand() -> None:
    camera = profile(entry(800.0, row=1.0, relative_error=0.1))
    fixed = ProfileLaw(camera).draw(100, generator=generator())
    drawn = ProfileLaw(camera, draw_uncertainty=True).draw(20_000, generator=generator())

    assert float(fixed.gain_dn.std(dim=0).max()) == 0.0
    for name in ("gain_dn", "read_noise_dn", "row_noise_dn"):
        ratio = getattr(drawn, name) / getattr(fixed, name)[0]
        assert_moments(ratio.reshape(20_000, -1)[:, 0].log(), mean=0.0, variance=0.01)
        assert float(ratio.reshape(20_000, -1).std(dim=1, correction=0).max()) < 1e-12  # common to the planes
    correlation = torch.corrcoef(torch.stack([drawn.gain_dn[:, 0], drawn.read_noise_dn[:, 0]]))
    assert abs(float(correlation[0, 1])) < 5 / np.sqrt(20_000)


def test_a_hopeless_estimate_does_not_blow_up() -> None:
    drawn = ProfileLaw(profile(entry(800.0, row=0.01, relative_error=3.0)), draw_uncertainty=True)

    rows = drawn.draw(1000, generator=generator()).row_noise_dn

    assert float(rows.max()) < 0.01 * np.exp(6 * MAX_RELATIVE_SPREAD)


def test_affine_view_is_that_of_the_sensor() -> None:
    cfa, noise = Cfa.parse("GBRG"), entry(800.0)
    black = np.array([[noise.planes[n].black_level_dn.value for n in row] for row in cfa.plane_of_site])
    declared = noise.affine(cfa, black, np.full((2, 2), 4095.0))

    drawn = ProfileLaw(profile(noise)).draw(2, generator=generator()).affine(1, cfa)

    np.testing.assert_allclose(drawn.a, declared.a, rtol=1e-12)
    np.testing.assert_allclose(drawn.b, declared.b, rtol=1e-9)


def test_maps_put_every_plane_on_its_sites() -> None:
    cfa = Cfa.parse("GRBG")
    drawn = ProfileLaw(profile(entry(800.0))).draw(1, generator=generator())
    mosaic = drawn.maps(drawn.gain_dn, torch.zeros(1, 1, 4, 4), cfa)
    packed = drawn.maps(drawn.gain_dn, torch.zeros(1, 4, 2, 2), cfa)

    torch.testing.assert_close(mosaic[0, 0, :2, :2], torch.tensor([[1.1, 1.0], [1.3, 1.2]]))  # G1 R / B G2
    torch.testing.assert_close(packed[0, :, 0, 0], torch.tensor([1.0, 1.1, 1.2, 1.3]))


def test_the_wide_prior_holds_the_published_cameras() -> None:
    prior = WidePrior()
    drawn = prior.draw(20_000, generator=generator())
    unit = (drawn.white_dn[:, 0] + 1.0) / 2.0**14
    log_gain = (drawn.gain_dn[:, 0] / unit).log()
    log_read = (drawn.read_noise_dn[:, 0] / unit).log()

    for camera in published_profiles():
        for noise in camera.entries:
            plane = noise.planes["R"]
            assert plane.gain is not None
            near = (log_gain - np.log(plane.gain.value)).abs() < 0.2
            if prior.gain_dn[0] <= plane.gain.value <= prior.gain_dn[1]:
                spread = log_read[near]
                assert spread.min() < np.log(plane.read_noise_dn.value) < spread.max(), (camera.model, noise.iso)


def test_the_wide_prior_draws_whole_levels_of_its_bit_depths_and_all_tails() -> None:
    drawn = WidePrior(bits=(10, 14), hot_fraction=(0.001, 0.002)).draw(2000, generator=generator())

    assert set(drawn.white_dn.flatten().tolist()) == {1023.0, 16383.0}
    assert torch.equal(drawn.black_dn, drawn.black_dn.round())
    assert set(drawn.tail_kind.tolist()) == {0, 1, 2}
    assert float(drawn.tail_shape[drawn.tail_kind == 0].abs().max()) == 0.0
    assert float(drawn.tail_shape[drawn.tail_kind == 1].min()) >= 0.0
    assert 0.001 <= float(drawn.hot_fraction.min()) <= float(drawn.hot_fraction.max()) <= 0.002


def test_impossible_priors_are_refused() -> None:
    with pytest.raises(ValueError, match="range of gain_dn must rise"):
        WidePrior(gain_dn=(3.0, 1.0))
    with pytest.raises(ValueError, match=r"Tukey shape \(-0.7, 0.2\)"):
        WidePrior(tukey_shape=(-0.7, 0.2))
    with pytest.raises(ValueError, match=r"K \(0.0, 30.0\)"):
        WidePrior(gain_dn=(0.0, 30.0))
