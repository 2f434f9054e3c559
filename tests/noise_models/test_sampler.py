"""Every image of a batch has the noise that its own parameters declare."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.utils.data import DataLoader

from noise_models.cfa import BAYER_PHASES, Cfa, pack, plane_mask, unpack
from noise_models.errors import CfaError, ProfileError
from noise_models.sampling.laws import WidePrior
from noise_models.sampling.parameters import NoiseParameters
from noise_models.sampling.sampler import NoiseSampler, tukey_lambda
from tests.moments import assert_moments
from tests.noise_models.noise_profiles import NoisyPatches, entry, generator, law, profile

RGGB = Cfa.parse("RGGB")
XTRANS = Cfa.parse("GGRGGBGGBGGRBRGRBGGGBGGRGGRGGBRBGBRG")
SIZE = 360


def mixed_isos(cfa: Cfa, **settings: object) -> NoiseParameters:
    """Six images at four ISOs, with all tails."""
    tails = {100.0: "gaussian", 400.0: "tukey", 800.0: "lognormal", 3200.0: "tukey"}
    entries = [
        entry(iso, planes=cfa.plane_names, tail=tail, **settings)  # type: ignore[arg-type]
        for iso, tail in tails.items()
    ]
    drawn = law(*entries, cfa=cfa.name).draw(200, generator=generator())
    assert drawn.iso is not None
    return drawn.take([drawn.iso.tolist().index(iso) for iso in (3200.0, 100.0, 800.0, 800.0, 3200.0, 400.0)])


def levels(cfa: Cfa, *, packed: bool) -> Tensor:
    """Of every ISO a dark or dim image, in which read noise shows; of some a brighter one."""
    light = torch.tensor([0.0, 0.002, 0.0, 0.4, 0.1, 0.0])[:, None, None, None].expand(6, 1, SIZE, SIZE)
    return pack(light, cfa) if packed else light


def check_moments(noisy: Tensor, clean: Tensor, declared: NoiseParameters, cfa: Cfa) -> None:
    """Of every image and plane apart."""
    variance = declared.variance(clean, cfa).expand_as(clean)
    mean = clean + declared.maps(declared.black_error_dn / declared.scale_dn, clean, cfa)
    if clean.shape[1] == 4:
        noisy, mean, variance = (unpack(v.expand_as(clean), cfa) for v in (noisy, mean, variance))
    for b in range(len(noisy)):
        for plane in cfa.plane_names:
            site = plane_mask(cfa, plane, noisy)[0, 0]
            assert_moments(noisy[b, 0][site], mean=float(mean[b, 0][site][0]), variance=float(variance[b, 0][site][0]))


@pytest.mark.parametrize("reparametrised", [False, True])
@pytest.mark.parametrize(("cfa", "packed"), [("GBRG", False), ("GRBG", True), (XTRANS.name, False), ("M", False)])
def test_moments_of_every_image_and_plane_are_the_declared_ones(cfa: str, packed: bool, reparametrised: bool) -> None:
    pattern = Cfa.parse(cfa)
    parameters = mixed_isos(pattern, jitter=3.0)
    clean = levels(pattern, packed=packed)

    # Clipping is off: it cuts far tails of the dark image at code 0.
    sampler = NoiseSampler(WidePrior(), reparametrised=reparametrised, clip=False)
    batch = sampler.sample(clean, cfa=pattern, generator=generator(1), parameters=parameters)

    check_moments(batch.noisy, clean, parameters, pattern)


def test_the_moment_check_finds_parameters_of_another_image() -> None:
    """The planted error: images and parameters in different orders."""
    parameters = mixed_isos(RGGB)
    clean = levels(RGGB, packed=False)
    noisy = NoiseSampler(WidePrior()).sample(clean, cfa=RGGB, generator=generator(), parameters=parameters).noisy

    with pytest.raises(AssertionError, match="variance"):
        check_moments(noisy, clean, parameters.take([1, 0, 2, 3, 4, 5]), RGGB)


def lines_only(cfa: Cfa, *, row: float, column: float) -> tuple[NoiseSampler, NoiseParameters]:
    parameters = mixed_isos(cfa, row=row, column=column, prnu=0.0, dsnu=0.0)
    parameters = replace(parameters, read_noise_dn=0.0 * parameters.read_noise_dn)
    return NoiseSampler(WidePrior(), quantise=False, clip=False), parameters


@pytest.mark.parametrize(
    ("cfa", "packed"),
    [*((name, p) for name in BAYER_PHASES for p in (False, True)), (XTRANS.name, False), ("M", False)],
)
def test_rows_and_columns_of_the_sensor_share_their_offsets(cfa: str, packed: bool) -> None:
    pattern = Cfa.parse(cfa)
    shape = (6, 4, 250, 10) if packed else (6, 1, 500, 20)  # no multiple of the X-Trans period
    for row, column in ((2.0, 0.0), (0.0, 2.0)):
        sampler, parameters = lines_only(pattern, row=row, column=column)
        noisy = sampler.sample(torch.zeros(shape), cfa=pattern, generator=generator(), parameters=parameters).noisy
        mosaic = unpack(noisy, pattern) if packed else noisy
        offsets = mosaic * parameters.maps(parameters.scale_dn, mosaic, pattern)  # the planes' scales differ

        along, across = (3, 2) if row else (2, 3)
        assert float(offsets.std(dim=along).max()) < 1e-3
        lines = offsets.mean(dim=along)
        assert float(lines.std()) > 1.0
        if row:
            assert_moments(lines, mean=0.0, variance=4.0)
        assert float(mosaic.std(dim=across).min()) > 0


def test_row_noise_of_packed_planes_is_not_shared_by_red_and_the_second_green() -> None:
    """What a sampler that draws one offset for all planes would do."""
    sampler, parameters = lines_only(RGGB, row=2.0, column=0.0)
    planes = sampler.sample(torch.zeros(6, 4, 400, 8), cfa=RGGB, generator=generator(), parameters=parameters).noisy
    rows = (planes * parameters.maps(parameters.scale_dn, planes, RGGB)).mean(dim=3)

    correlation = torch.corrcoef(rows[0])

    np.testing.assert_allclose(correlation[0, 1], 1.0, atol=1e-6)
    assert abs(float(correlation[0, 2])) < 5 / np.sqrt(400)


def test_values_are_whole_codes_between_clamp_and_white() -> None:
    sampler = profile(entry(800.0, hot=0.01)).sampler(white_level=1023.0, black_clamp=490.0)
    clean = torch.linspace(-0.05, 1.2, 64).expand(2, 1, 64, 64)

    batch = sampler.sample(clean, cfa=RGGB, generator=generator())

    p = batch.parameters
    codes = batch.noisy * p.maps(p.scale_dn, clean, RGGB) + p.maps(p.black_dn, clean, RGGB)
    np.testing.assert_allclose(codes, codes.round(), atol=1e-3)
    assert round(float(codes.min())) == 490
    assert round(float(codes.max())) == 1023
    assert float(p.white_dn.max()) == 1023.0


def test_hot_sites_are_as_frequent_and_bright_as_declared() -> None:
    parameters = mixed_isos(RGGB, hot=0.002, prnu=0.0)
    clean = torch.zeros(6, 1, 512, 512)
    sampler = NoiseSampler(WidePrior(), quantise=False, clip=False)
    with_hot = sampler.sample(clean, cfa=RGGB, generator=generator(), parameters=parameters).noisy

    values = with_hot * parameters.maps(parameters.scale_dn, clean, RGGB)

    for dn in values:
        # A hot site has 100 DN at least (half the mean excess), far outside the noise of the first two images.
        assert_moments(dn, mean=0.002 * 200.0)
    assert_moments((values[1] > 60.0).float(), mean=0.002)


@pytest.mark.parametrize("shape", [-0.2, -0.05, 0.0, 1e-9, 0.14, 0.2])
def test_tukey_lambda_follows_its_law_up_to_far_tails(shape: float) -> None:
    count = 2_000_000
    draws = tukey_lambda(torch.zeros(2, count // 2), torch.tensor([shape, shape]).double(), generator=generator())

    unit = np.sqrt(float(stats.tukeylambda.var(shape)))
    assert_moments(draws, mean=0.0, variance=1.0)
    for sigmas in (1.0, 3.0, 5.0):
        expected = float(stats.tukeylambda.sf(sigmas * unit, shape))
        for side in (1.0, -1.0):
            found = float((draws.double() * side > sigmas).double().mean())
            assert abs(found - expected) <= 5 * np.sqrt(expected / count) + 1 / count, (sigmas, side)


def test_tukey_lambda_draws_shapes_image_by_image_and_refuses_those_without_variance() -> None:
    draws = tukey_lambda(torch.zeros(2, 200_000), torch.tensor([-0.2, 0.14]).double(), generator=generator())

    kurtosis = (draws**4).mean(dim=1)
    assert kurtosis[0] > 8
    assert kurtosis[1] < 3.3
    with pytest.raises(ValueError, match="no variance"):
        tukey_lambda(torch.zeros(1, 4), torch.tensor([-0.6]).double(), generator=generator())


@pytest.mark.parametrize("tail", ["gaussian", "lognormal", "tukey"])
def test_gradient_of_the_reparametrised_noise_is_the_numerical_one(tail: str) -> None:
    sampler = NoiseSampler(law(entry(800.0, tail=tail, row=1.0)), reparametrised=True, quantise=False, clip=False)
    clean = torch.linspace(0.01, 0.5, 32, dtype=torch.float64).reshape(2, 1, 4, 4).requires_grad_()

    def noisy(x: Tensor) -> Tensor:
        return sampler.sample(x, cfa=RGGB, generator=generator(5)).noisy

    assert torch.autograd.gradcheck(noisy, clean)


def test_gradient_passes_rounding_and_stops_at_white() -> None:
    clean = torch.tensor([0.0, 0.3, 3.0]).repeat(8, 1).expand(1, 1, 8, 3).clone().requires_grad_()
    slopes = []
    for quantise in (True, False):
        sampler = NoiseSampler(law(entry(800.0)), reparametrised=True, quantise=quantise)
        noisy = sampler.sample(clean, cfa=RGGB, generator=generator(2)).noisy
        slopes.append(torch.autograd.grad(noisy.sum(), clean)[0])

    torch.testing.assert_close(slopes[0], slopes[1])
    assert (slopes[0][..., 2] == 0).all()
    assert torch.isfinite(slopes[0]).all()
    assert (slopes[0][..., 1] != 0).all()


def test_exact_noise_has_no_gradient_that_could_mislead() -> None:
    clean = torch.full((1, 1, 8, 8), 0.3, requires_grad=True)

    noisy = NoiseSampler(law(entry(800.0))).sample(clean, cfa=RGGB, generator=generator()).noisy

    assert not noisy.requires_grad


def test_a_seed_fixes_everything_and_seeds_differ() -> None:
    sampler = NoiseSampler(WidePrior())
    clean = torch.full((4, 4, 16, 16), 0.2)

    first, again, other = (sampler.sample(clean, cfa=RGGB, generator=generator(s)) for s in (1, 1, 2))

    assert torch.equal(first.noisy, again.noisy)
    assert torch.equal(first.parameters.gain_dn, again.parameters.gain_dn)
    assert not torch.equal(first.noisy, other.noisy)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_dtype_follows_the_images(dtype: torch.dtype) -> None:
    clean = torch.full((2, 1, 8, 8), 0.2, dtype=dtype)

    batch = NoiseSampler(WidePrior()).sample(clean, cfa=RGGB, generator=generator())

    assert batch.noisy.dtype == dtype
    assert batch.parameters.maps(batch.parameters.a, clean, RGGB).dtype == dtype


def test_the_sampler_works_in_a_spawned_worker() -> None:
    sampler = profile(entry(100.0), entry(800.0, tail="tukey", row=1.0)).sampler()
    items = NoisyPatches(sampler)

    from_worker = list(DataLoader(items, batch_size=2, num_workers=1, multiprocessing_context="spawn"))

    assert torch.equal(torch.cat(from_worker), torch.stack([items[k] for k in range(4)]))
    copy = pickle.loads(pickle.dumps(items))
    assert torch.equal(copy[2], items[2])


def test_wrong_shapes_planes_and_counts_are_refused() -> None:
    sampler = NoiseSampler(law(entry(800.0)))
    with pytest.raises(CfaError, match=r"mosaics \(B, 1, H, W\), not \(1, 4, 4, 4\)"):
        sampler.sample(torch.zeros(1, 4, 4, 4), cfa=XTRANS, generator=generator())
    with pytest.raises(CfaError, match=r"packed planes .* not \(1, 3, 4, 4\)"):
        sampler.sample(torch.zeros(1, 3, 4, 4), cfa=RGGB, generator=generator())
    with pytest.raises(ProfileError, match="images of a M sensor have M"):
        sampler.sample(torch.zeros(1, 1, 4, 4), cfa=Cfa.parse("M"), generator=generator())
    drawn = sampler.law.draw(3, generator=generator())
    with pytest.raises(ValueError, match="2 images need as many"):
        sampler.sample(torch.zeros(2, 1, 4, 4), cfa=RGGB, generator=generator(), parameters=drawn)
