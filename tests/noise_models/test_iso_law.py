"""Profiles between measured ISOs: one law a conversion-gain segment, and refusals where none reaches."""

import math

import numpy as np
import pytest

from noise_models.errors import NoProfileForIso
from noise_models.profile import CameraProfile
from noise_models.sensor import Estimate, HotPixels, PlaneNoise, SensorNoise, Tail

# Law of the published 28-ISO table of a Sony A7S II (Feng et al., PMN): input-referred s0 [e-], output-referred
# s1 [DN], K [DN/e-] per ISO; the conversion gain switches between ISO 1600 and ISO 2000.
K_PER_ISO = 0.765 / 800
LOW, HIGH = (4.38, 0.99), (1.15, 1.6)
ISOS = [50, 64, 80, 100, 125, 160, 200, 250, 320, 400, 500, 640, 800, 1000, 1250, 1600]
HIGH_ISOS = [2000, 2500, 3200, 4000, 5000, 6400, 8000, 10000, 12800, 16000, 20000, 25600]


def published(iso: float) -> float:
    pre, post = LOW if iso <= 1600 else HIGH
    return math.hypot(post, K_PER_ISO * iso * pre)


def estimate(value: float, relative: float = 0.005) -> Estimate:
    return Estimate(value=value, standard_error=abs(value) * relative)


def entry(iso: float, *, read: float | None = None, segment: int | None = None, **fields: object) -> SensorNoise:
    plane = PlaneNoise(
        gain=estimate(K_PER_ISO * iso),
        read_noise_dn=estimate(published(iso) if read is None else read),
        black_level_dn=Estimate(value=512.0 + iso / 1e4, standard_error=0.01),
    )
    return SensorNoise(
        iso=iso,
        planes={"M": plane},
        row_noise_dn=estimate(0.1 * published(iso)),
        segment=int(iso > 1600) if segment is None else segment,
        **fields,  # type: ignore[arg-type]
    )


def profile(*entries: SensorNoise) -> CameraProfile:
    return CameraProfile(make="Test", model="Test camera", cfa="M", entries=entries)


def test_published_table_is_recovered_from_six_isos() -> None:
    rng = np.random.default_rng(1)
    measured = (50, 400, 1600, 2000, 6400, 25600)
    camera = profile(*(entry(iso, read=published(iso) * (1 + 0.01 * rng.standard_normal())) for iso in measured))
    for iso in ISOS + HIGH_ISOS:
        plane = camera.at(iso).planes["M"]
        assert plane.read_noise_dn.value == pytest.approx(published(iso), rel=0.05)
        assert plane.gain is not None
        assert plane.gain.value == pytest.approx(K_PER_ISO * iso, rel=1e-6)
        assert camera.at(iso).origin == ("measured" if iso in measured else "interpolated")


def test_one_law_across_the_step_fails() -> None:
    """Planted error: the same entries with one segment id; the law is met at its neighbours and still errs between."""
    camera = profile(*(entry(iso, segment=0) for iso in (50, 400, 1600, 2000, 6400, 25600)))
    worst = max(abs(camera.at(iso).planes["M"].read_noise_dn.value / published(iso) - 1) for iso in ISOS + HIGH_ISOS)
    assert worst > 3 * 0.05  # three times what the right segments promise


def test_row_noise_follows_the_same_law() -> None:
    camera = profile(*(entry(iso, column_noise_dn=estimate(0.05 * published(iso))) for iso in (50, 400, 1600)))
    noise = camera.at(800)
    assert noise.row_noise_dn.value == pytest.approx(0.1 * published(800), rel=1e-3)
    assert noise.column_noise_dn is not None
    assert noise.column_noise_dn.value == pytest.approx(0.05 * published(800), rel=1e-3)


def test_two_isos_interpolate_with_a_wide_error() -> None:
    two = profile(entry(200), entry(800)).at(400).planes["M"].read_noise_dn
    three = profile(entry(100), entry(200), entry(800)).at(400).planes["M"].read_noise_dn
    assert two.standard_error is not None
    assert three.standard_error is not None
    assert abs(two.value - published(400)) < 2 * two.standard_error
    assert two.standard_error > 5 * three.standard_error


def test_misfit_enters_the_error() -> None:
    clean = profile(*(entry(iso) for iso in (100, 200, 400, 800)))
    off = profile(entry(100), entry(200, read=published(200) * 1.2), entry(400), entry(800))
    errors = [camera.at(300).planes["M"].read_noise_dn.standard_error for camera in (clean, off)]
    assert errors[0] is not None
    assert errors[1] is not None
    assert errors[1] > 5 * errors[0]


def test_gain_that_is_not_proportional_to_iso_is_uncertain() -> None:
    odd = entry(200)
    plane = odd.planes["M"].model_copy(update={"gain": estimate(K_PER_ISO * 100)})
    camera = profile(entry(100), odd.model_copy(update={"planes": {"M": plane}}), entry(400))
    gain = camera.at(300).planes["M"].gain
    assert gain is not None
    assert gain.standard_error is not None
    assert gain.standard_error > 0.2 * gain.value


@pytest.mark.parametrize("iso", [49, 25601, 1e9, 0.0, -5.0, math.nan])
def test_outside_the_range_is_refused(iso: float) -> None:
    camera = profile(*(entry(iso) for iso in (50, 1600, 2000, 25600)))
    with pytest.raises(NoProfileForIso, match=r"outside the measured range \(measured: 50, 1600, 2000, 25600\)"):
        camera.at(iso)


def test_between_two_segments_is_refused() -> None:
    camera = profile(*(entry(iso) for iso in (50, 1600, 2000, 25600)))
    with pytest.raises(NoProfileForIso, match="conversion gain changes between ISO 1600 and ISO 2000"):
        camera.at(1800)


def test_levels_tails_and_hot_pixels_between_isos() -> None:
    def full(iso: float, shape: float, fraction: float) -> SensorNoise:
        return entry(
            iso,
            tail=Tail(kind="tukey", shape=Estimate(value=shape)),
            hot_pixels=HotPixels(fraction=estimate(fraction), excess_dn=estimate(10.0)),
            exposure_s=(0.1, 1.0),
        )

    noise = profile(full(100, 0.1, 1e-4), full(400, -0.1, 4e-4)).at(200)
    assert noise.tail.shape is not None
    assert noise.tail.shape.value == pytest.approx(0.0)
    assert noise.hot_pixels is not None
    assert noise.hot_pixels.fraction.value == pytest.approx(2e-4)
    assert noise.exposure_s == (0.1, 1.0)
    black = noise.planes["M"].black_level_dn
    assert black.value == pytest.approx(512.025)
    assert black.standard_error == pytest.approx(math.hypot(0.01, 0.03 / math.sqrt(12)))


def test_darks_only_interpolate_over_iso_itself() -> None:
    def dark(iso: float) -> SensorNoise:
        full = entry(iso)
        return full.model_copy(update={"planes": {"M": full.planes["M"].model_copy(update={"gain": None})}})

    noise = profile(dark(100), dark(400), dark(1600)).at(800)
    assert noise.planes["M"].gain is None
    assert noise.planes["M"].read_noise_dn.value == pytest.approx(published(800), rel=1e-3)
