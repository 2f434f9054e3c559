"""The virtual camera has exactly the moments that its `SensorNoise` declares."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from noise_models.cfa import BAYER_PHASES, XTRANS_ROWS, Cfa
from noise_models.errors import ProfileError
from noise_models.frame import RawFrame, Shot
from noise_models.likelihood import CodeLikelihood
from noise_models.sensor import Estimate, HotPixels, PlaneNoise, SensorNoise, Tail
from noise_models.simulate import VirtualCamera
from tests.moments import assert_moments

RGGB, MONO, XTRANS = Cfa.parse("RGGB"), Cfa.parse("M"), Cfa(XTRANS_ROWS)


def rng(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def value(number: float) -> Estimate:
    return Estimate(value=number)


def plane(*, gain: float = 0.8, read: float = 4.0, black: float = 512.3, **fixed: float) -> PlaneNoise:
    return PlaneNoise(
        gain=value(gain),
        read_noise_dn=value(read),
        black_level_dn=value(black),
        **{name: value(v) for name, v in fixed.items()},
    )


def sensor(
    planes: dict[str, PlaneNoise] | PlaneNoise | None = None, *, row: float = 0.0, **more: object
) -> SensorNoise:
    given = plane() if planes is None else planes
    return SensorNoise(
        iso=800.0, planes=given if isinstance(given, dict) else {"M": given}, row_noise_dn=value(row), **more
    )


def bayer(**more: object) -> SensorNoise:
    """Four planes that differ in every number."""
    planes = {
        name: plane(gain=0.5 + 0.2 * k, read=2.0 + k, black=500.0 + 10.25 * k)
        for k, name in enumerate(("R", "G1", "G2", "B"))
    }
    return sensor(planes, **more)


def codes(frame: RawFrame) -> np.ndarray:
    return frame.mosaic.astype(np.float64)


@pytest.mark.parametrize(
    "tail",
    [Tail(), Tail(kind="lognormal", shape=value(0.3)), Tail(kind="tukey", shape=value(-0.1))],
    ids=lambda t: t.kind,
)
@pytest.mark.parametrize("level", [0.0, 0.002, 0.1, 0.6])
def test_single_frame_moments_are_the_declared_ones(level: float, tail: Tail) -> None:
    noise = sensor(tail=tail)
    camera = VirtualCamera(noise, cfa=MONO, shape=(1000, 1000))
    mean = level * (16383.0 - 512.3)

    frame = camera.flat(level, generator=rng())

    assert_moments(codes(frame), mean=512.3 + mean, variance=float(noise.variance("M", mean)))


def test_a_camera_with_another_gain_is_found() -> None:
    """The planted error: shot noise of 0.79 in place of 0.8 DN/e-."""
    camera = VirtualCamera(sensor(plane(gain=0.79)), cfa=MONO, shape=(1000, 1000))
    frame = camera.flat(0.1, generator=rng())

    with pytest.raises(AssertionError, match="variance"):
        assert_moments(codes(frame), variance=float(sensor().variance("M", 0.1 * (16383.0 - 512.3))))


@pytest.mark.parametrize("phase", BAYER_PHASES)
def test_every_plane_has_its_own_moments(phase: str) -> None:
    cfa = Cfa.parse(phase)
    noise = bayer()
    frame = VirtualCamera(noise, cfa=cfa, shape=(601, 601)).flat(0.05, generator=rng())

    for name in cfa.plane_names:
        (i, j), black = cfa.sites(name)[0], noise.planes[name].black_level_dn.value
        mean = 0.05 * (16383.0 - black)
        assert frame.black_level[i, j] == black
        assert_moments(codes(frame)[i::2, j::2], mean=black + mean, variance=float(noise.variance(name, mean)))


def test_blocks_of_rows_keep_the_xtrans_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noise_models.simulate.SITES_PER_BLOCK", 1000)
    planes = {name: plane(black=100.0 * (k + 1), read=0.5) for k, name in enumerate("RGB")}
    frame = VirtualCamera(sensor(planes), cfa=XTRANS, shape=(50, 62)).dark(generator=rng())

    index = XTRANS.plane_index(50, 62).numpy()
    for k in range(3):
        assert abs(codes(frame)[index == k].mean() - 100.0 * (k + 1)) < 0.2


def test_row_and_column_noise_have_their_variance() -> None:
    noise = sensor(row=1.5, column_noise_dn=value(0.9))
    camera = VirtualCamera(noise, cfa=MONO, shape=(4000, 500))
    difference = codes(camera.dark(generator=rng(1))) - codes(camera.dark(generator=rng(2)))

    pixel = float(noise.planes["M"].variance(0.0))
    assert_moments(difference.mean(axis=1), variance=2 * (1.5**2 + pixel / 500))
    assert_moments(difference.mean(axis=0), variance=2 * (0.9**2 + pixel / 4000))
    with pytest.raises(AssertionError, match="variance"):  # planted: row noise counted as pixel noise
        assert_moments(difference.mean(axis=1), variance=2 * (1.5**2 + pixel) / 500)


def test_total_variance_of_one_site_over_frames_includes_the_lines() -> None:
    noise = sensor(row=3.0, column_noise_dn=value(2.0))
    camera = VirtualCamera(noise, cfa=MONO, shape=(2, 2))
    generator = rng()

    first_site = [camera.flat(0.01, generator=generator).mosaic[0, 0] for _ in range(4000)]

    assert_moments(first_site, variance=float(noise.variance("M", 0.01 * (16383.0 - 512.3))))


def test_fixed_pattern_stays_between_frames() -> None:
    """Pair differences are free of PRNU and DSNU; the mean frame holds them."""
    fixed = plane(prnu=0.02, dsnu_dn=6.0)
    camera = VirtualCamera(sensor(fixed), cfa=MONO, shape=(1000, 1000))
    mean = 0.3 * (16383.0 - 512.3)
    generator = rng()

    first, second = (codes(camera.flat(0.3, generator=generator)) for _ in range(2))

    temporal, spatial = float(sensor().variance("M", mean)), (0.02 * mean) ** 2 + 6.0**2
    assert_moments(first - second, mean=0.0, variance=2 * temporal, resolution=1e-3)  # PRNU^2 of the shot noise
    assert_moments(first, variance=temporal + spatial, resolution=1e-3)
    covariance = (first - first.mean()) * (second - second.mean())
    assert_moments(covariance, mean=spatial)


def test_dark_shading_and_black_jitter() -> None:
    noise = sensor(plane(read=1.0), dark_shading_dn=value(3.0), black_jitter_dn=value(0.5))
    camera = VirtualCamera(noise, cfa=MONO, shape=(100, 150))
    generator = rng()
    darks = np.stack([codes(camera.dark(generator=generator)) for _ in range(400)])

    assert_moments(darks.mean(axis=(1, 2)), variance=0.5**2 + (1.0 + 1 / 12) / 15_000)
    mean = darks.mean(axis=0)
    assert float(np.std(mean)) == pytest.approx(3.0, rel=0.002)
    assert np.corrcoef(mean.ravel(), camera.pattern.offset_dn.numpy().ravel())[0, 1] > 0.999


def test_one_seed_is_one_body_at_every_iso() -> None:
    def body(seed: int, **changes: float) -> VirtualCamera:
        return VirtualCamera(sensor(plane(prnu=0.01, **changes)), cfa=MONO, shape=(20, 30), seed=seed)

    reference = body(5).pattern.response
    assert torch.equal(reference, body(5, gain=3.0, read=9.0, dsnu_dn=2.0).pattern.response)
    assert not torch.equal(reference, body(6).pattern.response)


def test_frames_are_decided_by_the_generator() -> None:
    camera = VirtualCamera(bayer(row=0.5), cfa=RGGB, shape=(30, 40))

    first, again, other = (camera.flat(0.2, generator=rng(seed)).mosaic for seed in (7, 7, 8))

    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_masked_columns_are_dark_share_the_rows_and_have_their_phase() -> None:
    noise = bayer(row=40.0)
    camera = VirtualCamera(noise, cfa=RGGB, shape=(600, 200), masked_columns=151)
    frame = camera.flat(0.0, generator=rng())
    bright = camera.flat(0.5, generator=rng())

    (area,) = frame.masked
    assert (area.side, area.pixels.shape, area.cfa) == ("left", (600, 151), RGGB.shifted(0, -151))
    for name in RGGB.plane_names:
        i, j = area.cfa.sites(name)[0]
        level = area.pixels[i::2, j::2].astype(float).mean()
        assert level == pytest.approx(noise.planes[name].black_level_dn.value, abs=5 * 40.0 / math.sqrt(300))
    lit = bright.masked[0].pixels.mean() - area.pixels.mean()  # the same rows, other pixels: no light reached them
    assert abs(lit) < 5 * math.sqrt(2 * (5.0**2 + 1 / 12) / area.pixels.size)
    rows = np.corrcoef(area.pixels.mean(axis=1), codes(frame).mean(axis=1))[0, 1]
    assert rows > 0.99


@pytest.mark.parametrize("cfa", [RGGB, Cfa.parse("GBRG"), XTRANS], ids=lambda c: c.name)
def test_colours_fall_on_their_sites(cfa: Cfa) -> None:
    names = {name: plane(gain=0.01, read=0.3, black=100.0) for name in cfa.plane_names}
    camera = VirtualCamera(sensor(names), cfa=cfa, shape=(13, 17), white_level=1100.0)
    scene = torch.tensor([0.2, 0.5, 0.8])[:, None, None].expand(3, 13, 17)

    frame, clean = camera.expose(scene, generator=rng(), exposure=0.5), camera.clean(scene, exposure=0.5)

    letters = np.array([[cfa.rows[i % cfa.period[0]][j % cfa.period[1]] for j in range(17)] for i in range(13)])
    expected = np.select([letters == "R", letters == "G", letters == "B"], [200.0, 350.0, 500.0])
    np.testing.assert_allclose(clean, expected, rtol=1e-6)
    assert np.abs(codes(frame) - clean).max() < 5 * math.sqrt(0.01 * 400 + 0.3**2) + 1


def test_mean_frame_is_the_clean_mosaic() -> None:
    scene = torch.rand(3, 12, 16, generator=rng(3))
    camera = VirtualCamera(bayer(), cfa=RGGB, shape=(12, 16))
    generator = rng()

    frames = np.stack([codes(camera.expose(scene, generator=generator, exposure=0.7)) for _ in range(500)])

    standard = (frames.mean(axis=0) - camera.clean(scene, exposure=0.7)) / (frames.std(axis=0) / math.sqrt(500))
    assert np.abs(standard).max() < 5.0


def test_hot_sites_stand_out_and_grow_with_the_exposure() -> None:
    noise = sensor(hot_pixels=HotPixels(fraction=value(0.01), excess_dn=value(300.0)), exposure_s=(0.5, 0.5))
    camera = VirtualCamera(noise, cfa=MONO, shape=(500, 500))
    hot = camera.pattern.hot_dn.numpy() > 0

    short, long = (codes(camera.dark(generator=rng(), exposure_s=t)) - 512.3 for t in (0.5, 2.0))

    assert short[hot].mean() == pytest.approx(300.0, rel=0.06)  # 2500 sites of relative spread 1/2, 5 errors
    assert long[hot].mean() / short[hot].mean() == pytest.approx(4.0, rel=0.01)
    assert_moments(long[~hot], mean=0.0, variance=float(noise.variance("M", 0.0)))


def test_dark_current_adds_electrons_with_their_shot_noise() -> None:
    noise = sensor(plane(dark_current=50.0), exposure_s=(1.0, 8.0))
    camera = VirtualCamera(noise, cfa=MONO, shape=(1000, 1000), shot=Shot(exposure_s=1.0))

    short, long = camera.dark(generator=rng()), camera.dark(generator=rng(), exposure_s=5.0)

    assert_moments(codes(short), mean=512.3, variance=float(noise.variance("M", 0.0)))
    signal = 0.8 * 50.0 * 4.0
    assert_moments(codes(long), mean=512.3 + signal, variance=float(noise.variance("M", signal)))
    assert (short.shot.exposure_s, long.shot.exposure_s) == (1.0, 5.0)


@pytest.mark.parametrize(("clamp", "spread", "shift"), [(0.0, 0.584, 0.399), (-1.0, 0.867, 0.083)])
def test_black_clamp_shifts_the_dark_mean(clamp: float, spread: float, shift: float) -> None:
    """Censored normal at mu + c sigma (Tobin): std and mean shift in units of sigma."""
    sigma = 40.0
    camera = VirtualCamera(
        sensor(plane(read=sigma, black=512.0)), cfa=MONO, shape=(1000, 1000), black_clamp=512.0 + clamp * sigma
    )
    dark = codes(camera.dark(generator=rng()))

    assert dark.min() == 512.0 + clamp * sigma
    assert dark.std() / sigma == pytest.approx(spread, abs=0.003)
    assert (dark.mean() - 512.0) / sigma == pytest.approx(shift, abs=0.005)


@pytest.mark.parametrize(
    ("read", "black", "level"), [(0.4, 10.5, 0.0), (0.3, 3.0, 0.01), (2.0, 3.0, 0.0), (1.5, 8.0, 0.98)]
)
def test_codes_follow_the_exact_likelihood(read: float, black: float, level: float) -> None:
    """Where rounding and clipping matter most: chi-squared of the histogram against `CodeLikelihood`."""
    noise = sensor(plane(gain=1.3, read=read, black=black))
    camera = VirtualCamera(noise, cfa=MONO, shape=(1000, 1000), white_level=255.0)
    histogram = np.bincount(camera.flat(level, generator=rng()).mosaic.ravel(), minlength=256)

    law = CodeLikelihood.of(noise, "M", high=255)
    expected = 1e6 * law.log_prob(torch.arange(256), torch.tensor(level * (255.0 - black))).exp().numpy()
    seen = expected > 20
    chi2 = float(((histogram - expected)[seen] ** 2 / expected[seen]).sum())
    freedom = int(seen.sum()) - 1
    assert chi2 < freedom + 5 * math.sqrt(2 * freedom)
    assert histogram[~seen].sum() <= expected[~seen].sum() + 5 * math.sqrt(expected[~seen].sum()) + 5


def test_saturation_is_the_white_level_and_bright_light_clips() -> None:
    camera = VirtualCamera(sensor(plane(saturation_dn=3000.5)), cfa=MONO, shape=(8, 8), white_level=4095.0)
    frame = camera.flat(3.0, generator=rng())

    assert camera.white_level.tolist() == [[3000.0]]
    assert np.unique(frame.mosaic).tolist() == [3000]
    assert bool(frame.clipped().all())
    assert camera.clean(torch.full((1, 8, 8), 2.0)).max() == 3000.0


def test_uneven_flat_has_the_level_of_every_site() -> None:
    levels = torch.linspace(0.1, 0.5, 1000).expand(1000, 1000)
    camera = VirtualCamera(sensor(), cfa=MONO, shape=(1000, 1000))
    linear = camera.flat(levels, generator=rng()).linear()[0, 0].double()

    columns = (linear.mean(dim=0) - levels[0]) / (linear.std(dim=0) / math.sqrt(1000))
    assert float(columns.abs().max()) < 5.0


def test_frames_say_how_they_were_taken() -> None:
    shot = Shot(make="Maker", model="One", exposure_s=0.02, aperture=4.0)
    frame = VirtualCamera(bayer(), cfa=RGGB, shape=(4, 6), shot=shot).flat(0.1, generator=rng())

    assert frame.shot == Shot(make="Maker", model="One", iso=800.0, exposure_s=0.02, aperture=4.0)
    assert frame.colour.as_shot_neutral == (1.0, 1.0, 1.0)
    assert frame.mosaic.dtype == np.uint16
    assert frame.mosaic.shape == (4, 6)


def camera(**changes: object) -> VirtualCamera:
    return VirtualCamera(**{"noise": sensor(), "cfa": MONO, "shape": (4, 6), **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"cfa": RGGB}, ProfileError, "planes M; a RGGB sensor has R, G1, G2, B"),
        ({"shot": Shot(iso=100.0)}, ValueError, "ISO 100, the noise is that of ISO 800"),
        ({"white_level": 70000.0}, ValueError, "within 0..65535"),
        ({"white_level": 400.0}, ValueError, "must rise"),
        ({"black_clamp": -1.0}, ValueError, "must rise"),
        ({"shape": (0, 6)}, ValueError, "No sensor has"),
        (
            {"noise": sensor(PlaneNoise(read_noise_dn=value(1.0), black_level_dn=value(0.0)))},
            ProfileError,
            "gain K of M is unknown",
        ),
    ],
)
def test_impossible_cameras_are_refused(changes: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        camera(**changes)


@pytest.mark.parametrize(
    ("scene", "message"),
    [
        (torch.zeros(3, 4, 6), r"needs a scene of shape \(1, 4, 6\)"),
        (torch.zeros(1, 4, 5), r"not \(1, 4, 5\)"),
        (torch.full((1, 4, 6), -0.1), "cannot be negative"),
        (torch.full((1, 4, 6), math.nan), "not finite"),
    ],
)
def test_scenes_that_are_no_light_are_refused(scene: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        camera().expose(scene, generator=rng())


def test_flat_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"map of shape \(4, 6\), not \(6, 4\)"):
        camera().flat(torch.zeros(6, 4), generator=rng())
