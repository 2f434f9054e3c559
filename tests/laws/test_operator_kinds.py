"""What each operator does, against values known from elsewhere."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from scipy import ndimage

from noise_models.cfa import BAYER_PHASES, XTRANS_ROWS, Cfa, pack
from noise_models.errors import CfaError
from physrestore.operators.base import LinearOperator
from physrestore.operators.blur import Blur, SeparableBlur
from physrestore.operators.conjugate_gradient import InexactSolution, conjugate_gradient, solve
from physrestore.operators.crop import Crop
from physrestore.operators.downsample import Downsample
from physrestore.operators.exposure import Exposure
from physrestore.operators.kernels import downsampling_profile, gaussian_profile
from physrestore.operators.mosaic import Mosaic, PackedMosaic
from physrestore.operators.sensor import SensorReadout
from physrestore.operators.shading import Shading
from physrestore.operators.varying import VaryingBlur
from physrestore.operators.warp import Translation, Warp
from tests.laws import operator_laws as laws
from tests.laws.operator_table import random, skew_kernel, turn, uniform

RGGB = Cfa.parse("RGGB")


@pytest.mark.parametrize("name", BAYER_PHASES)
def test_packed_is_the_pack_of_the_mosaic(name: str) -> None:
    cfa = Cfa.parse(name)
    x = random((2, 3, 6, 8), 1)

    assert torch.equal(PackedMosaic(cfa).A(x), pack(Mosaic(cfa).A(x), cfa))


def test_mosaic_takes_the_letter_of_every_site() -> None:
    cfa = Cfa(XTRANS_ROWS).shifted(2, 3)
    x = random((1, 3, 7, 11), 1)

    y = Mosaic(cfa).A(x)

    for i in range(7):
        for j in range(11):
            assert y[0, 0, i, j] == x[0, "RGB".index(cfa.rows[i % 6][j % 6]), i, j]


@pytest.mark.parametrize(("boundary", "mode"), [("circular", "wrap"), ("reflect", "mirror")])
@pytest.mark.parametrize("size", [(3, 5), (4, 2)])
def test_blur_is_scipys_convolution(boundary: str, mode: str, size: tuple[int, int]) -> None:
    kernel, x = skew_kernel(*size), random((1, 1, 9, 12), 1)

    expected = ndimage.convolve(x[0, 0].numpy(), kernel.numpy(), mode=mode)

    np.testing.assert_allclose(Blur(kernel, boundary=boundary).A(x)[0, 0].numpy(), expected, atol=1e-12)


def test_unobserved_is_the_inner_part_of_every_boundary() -> None:
    kernel, x = skew_kernel(3, 4), random((1, 2, 9, 12), 1)
    inner = Blur(kernel, boundary="unobserved").A(x)

    for boundary in ("circular", "reflect"):
        whole = Blur(kernel, boundary=boundary).A(x)
        torch.testing.assert_close(whole[..., 1:8, 1:10], inner, rtol=0, atol=1e-13)


@pytest.mark.parametrize("boundary", ["circular", "reflect", "unobserved"])
def test_separable_blur_is_the_blur_of_its_product(boundary: str) -> None:
    x = random((2, 3, 14, 15), 1)

    two = SeparableBlur(skew_kernel(1, 5)[0], skew_kernel(1, 4)[0], boundary=boundary)
    one = Blur(two.psf, boundary=boundary)

    torch.testing.assert_close(two.A(x), one.A(x), rtol=0, atol=1e-13)
    torch.testing.assert_close(two.A_adjoint(one.A(x)), one.A_adjoint(one.A(x)), rtol=0, atol=1e-13)


def test_gaussian_has_the_std_it_says() -> None:
    profile = gaussian_profile(1.7)
    offset = torch.arange(len(profile)) - len(profile) // 2

    assert float((profile * offset**2).sum().sqrt()) == pytest.approx(1.7, rel=1e-3)


def test_varying_blur_with_one_part_is_blur() -> None:
    kernel, x = skew_kernel(3, 5), random((1, 2, 9, 12), 1)
    one = VaryingBlur(kernel[None, None, None], torch.ones(1, 1, 1, 9, 12), boundary="unobserved")

    torch.testing.assert_close(one.A(x), Blur(kernel, boundary="unobserved").A(x), rtol=0, atol=1e-13)


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("kind", ["area", "bicubic"])
def test_samples_sit_in_the_middle_of_their_pixels(factor: int, kind: str) -> None:
    ramp = torch.arange(12.0 * factor, dtype=torch.float64).expand(1, 1, 12 * factor, -1)

    small = Downsample(factor, filter=kind, boundary="reflect").A(ramp)  # type: ignore[arg-type]

    middle = factor * torch.arange(12, dtype=torch.float64) + (factor - 1) / 2
    torch.testing.assert_close(small[0, 0, 6, 3:-3], middle[3:-3], rtol=0, atol=1e-10)


def test_downsampling_is_antialiased() -> None:
    checkerboard = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(6, 6)[None, None]

    assert float(Downsample(2).A(checkerboard).abs().max()) < 1e-6
    assert float(downsampling_profile(3, "bicubic").sum()) == pytest.approx(1.0)


def test_warp_is_kornias_inside() -> None:
    from kornia.geometry.transform import warp_perspective

    x = random((1, 2, 20, 24), 1)
    operator = Warp(turn())
    # kornia's matrix goes from the source to the result, ours looks up the result's pixels in the source
    expected = warp_perspective(x, torch.linalg.inv(turn())[None], (20, 24), align_corners=True)

    known = operator.observed(x).expand(x.shape)
    assert known.double().mean() > 0.7
    torch.testing.assert_close(operator.A(x)[known], expected[known], rtol=0, atol=1e-6)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_whole_pixel_shifts_are_exact_and_the_rest_is_unobserved(interpolation: str) -> None:
    x = random((1, 1, 9, 4001), 1, torch.float32)
    operator = Translation(torch.tensor([-2.0, 3.0]), interpolation=interpolation)  # type: ignore[arg-type]

    y = operator.A(x)

    assert torch.equal(y[..., :7, 3:], x[..., 2:, :-3])
    assert torch.equal(operator.observed(x)[0, 0].nonzero(), torch.ones(7, 3998).nonzero() + torch.tensor([0, 3]))
    assert float(y.where(~operator.observed(x), 0.0).abs().max()) == 0.0


def test_bicubic_keeps_a_parabola_and_bilinear_a_plane() -> None:
    t = torch.arange(16.0, dtype=torch.float64)
    shift = torch.tensor([0.0, 0.3])
    for interpolation, line in (("bicubic", t.square()), ("bilinear", t)):
        operator = Translation(shift, interpolation=interpolation)  # type: ignore[arg-type]
        x = line.expand(1, 1, 3, -1)
        exact = (t - 0.3).square() if interpolation == "bicubic" else t - 0.3
        known = operator.observed(x)[0, 0, 1]

        torch.testing.assert_close(operator.A(x)[0, 0, 1][known], exact[known], rtol=0, atol=1e-6)


def test_pixels_behind_the_camera_are_unobserved() -> None:
    horizon = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, -0.25, 1.0]])

    assert not bool(Warp(horizon).observed(torch.zeros(1, 1, 9, 9))[0, 0, 4:].any())


def test_weighted_prox_is_the_dense_solution() -> None:
    operator = Mosaic(RGGB) * Blur(skew_kernel(), boundary="reflect")
    shape = (1, 3, 6, 7)
    z, y, weights = laws.data(operator, shape, torch.float64)
    matrix = laws.dense(operator, shape)
    normal = matrix.T @ (weights.flatten()[:, None] * matrix) + torch.eye(matrix.shape[1]) / 2.0

    expected = torch.linalg.solve(normal, matrix.T @ (weights * y).flatten() + z.flatten() / 2.0)

    torch.testing.assert_close(operator.prox_weighted(z, y, weights, 2.0).flatten(), expected, rtol=0, atol=1e-9)


def test_zhaos_closed_form_is_the_dense_solution() -> None:
    operator, shape = Downsample(3, filter=skew_kernel()), (1, 1, 6, 9)
    z, y, _ = laws.data(operator, shape, torch.float64)
    matrix = laws.dense(operator, shape)

    expected = torch.linalg.solve(matrix.T @ matrix + torch.eye(54) / 7.0, matrix.T @ y.flatten() + z.flatten() / 7.0)

    torch.testing.assert_close(operator.prox_weighted(z, y, None, 7.0, max_iter=0).flatten(), expected)


@pytest.mark.parametrize(
    "operator",
    [Blur(skew_kernel()), Exposure(0.3) * Blur(skew_kernel()), Blur(skew_kernel()) * Exposure(0.3), Downsample(2)],
    ids=["blur", "exposure-of-blur", "blur-of-exposure", "down"],
)
def test_fourier_forms_need_no_iteration(operator: LinearOperator) -> None:
    z, y, _ = laws.data(operator, (1, 2, 8, 10), torch.float64)

    with warnings.catch_warnings():
        warnings.simplefilter("error", InexactSolution)
        operator.prox_weighted(z, y, torch.tensor([[2.0, 5.0]]), 3.0, max_iter=0)


def test_an_unfinished_solution_warns() -> None:
    operator = Blur(skew_kernel(), boundary="reflect")
    z, y, weights = laws.data(operator, (1, 1, 9, 9), torch.float64)

    with pytest.warns(InexactSolution, match=r"stopped after 2 steps .* Raise max_iter \(now 2\)"):
        operator.prox_weighted(z, y, weights, 100.0, max_iter=2)


def test_conjugate_gradients_treat_images_apart_and_know_their_residual() -> None:
    diagonal = torch.stack([torch.ones(3, 3), torch.linspace(1, 100, 9).reshape(3, 3)])[:, None].double()
    rhs = random((2, 1, 3, 3), 1)
    found = conjugate_gradient(lambda x: diagonal * x, rhs, tol=1e-12, max_iter=50)
    early = conjugate_gradient(lambda x: diagonal * x, rhs, tol=1e-12, max_iter=4)

    torch.testing.assert_close(found.solution, rhs / diagonal, rtol=1e-9, atol=0)
    assert not found.at_floor
    assert float(early.residual[0]) < 1e-12 < float(early.residual[1])
    residual = (rhs - diagonal * early.solution)[1].norm() / rhs[1].norm()
    assert float(early.residual[1]) == pytest.approx(float(residual), rel=1e-9)
    with pytest.raises(ValueError, match="need float32 or float64, not torch"):
        solve(lambda x: x, rhs.half(), max_iter=5)


def test_readout_rounds_clips_and_keeps_the_site_levels() -> None:
    black = np.array([[64.0, 65.0], [65.5, 66.0]])
    readout = SensorReadout(black=black, white=black + 200.0, high=260.0)
    x = uniform((1, 1, 7, 9), 1) * 1.4 - 0.4

    codes = readout.codes(x)

    sites = torch.from_numpy(np.tile(black, (4, 5))[:7, :9])
    torch.testing.assert_close(codes[0, 0], (sites + 200.0 * x[0, 0]).round().clamp(0.0, 260.0))
    assert Mosaic(RGGB, sensor_model=readout)(uniform((1, 3, 7, 9), 2)).shape == (1, 1, 7, 9)


@pytest.mark.parametrize(("gradient", "expected"), [("clipped", [0.0, 1.0, 0.0]), ("straight-through", [1.0] * 3)])
def test_readout_gradient(gradient: str, expected: list[float]) -> None:
    level = np.full((1, 1), 64.0)
    readout = SensorReadout(black=level, white=level + 200.0, gradient=gradient)  # type: ignore[arg-type]
    x = torch.tensor([-0.9, 0.4, 1.2], dtype=torch.float64).reshape(1, 1, 1, 3).requires_grad_()

    readout(x).sum().backward()

    assert x.grad is not None
    assert x.grad.flatten().tolist() == pytest.approx(expected)


ONE = torch.ones(1, 1, 4, 4)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Mosaic(Cfa.parse("M")), CfaError, "no mosaic to apply"),
        (lambda: Mosaic(RGGB).A(ONE), ValueError, r"three colours \(B, 3, H, W\), not of \(1, 1, 4, 4\)"),
        (lambda: Mosaic(RGGB).A_adjoint(torch.ones(1, 3, 4, 4)), ValueError, r"\(B, 1, H, W\), not \(1, 3, 4, 4\)"),
        (lambda: PackedMosaic(Cfa(XTRANS_ROWS)), CfaError, "Only Bayer mosaics have four packed planes.*Use Mosaic"),
        (lambda: PackedMosaic(RGGB).A(torch.ones(1, 3, 5, 4)), CfaError, "even H and W"),
        (lambda: Blur(torch.ones(3)), ValueError, r"finite, \(kh, kw\)"),
        (lambda: Blur(torch.ones(3, 3), boundary="zero"), ValueError, "one of circular, reflect, unobserved"),
        (lambda: Blur(torch.ones(5, 5), boundary="unobserved").A(ONE), ValueError, "5x5 does not lie inside.* 4x4"),
        (lambda: Blur.gaussian(0.0), ValueError, "positive sigma in pixels, not 0"),
        (lambda: SeparableBlur(torch.ones(2, 2), torch.ones(2)), ValueError, "profile 'down' is a finite line"),
        (lambda: Downsample(3).A(ONE), ValueError, r"\(4, 4\) is no multiple of the factor 3"),
        (lambda: Downsample(0), ValueError, "whole factor of at least one, not 0"),
        (lambda: Downsample(2, boundary="unobserved"), ValueError, "knows the boundaries circular and reflect"),
        (lambda: Downsample(2, filter="box"), ValueError, "'area' or 'bicubic', not 'box'"),
        (lambda: Warp(torch.eye(2)), ValueError, r"\(3, 3\) or \(1\|B, 3, 3\); given was \(2, 2\)"),
        (lambda: Warp(torch.zeros(3, 3)), ValueError, "must be invertible"),
        (lambda: Warp(torch.eye(3), interpolation="lanczos"), ValueError, "one of bilinear, bicubic, not 'lanczos'"),
        (lambda: Warp(torch.eye(3).repeat(2, 1, 1)).A(torch.ones(3, 1, 4, 4)), ValueError, "2 homographies do not fit"),
        (lambda: Translation(torch.tensor([1.0])), ValueError, r"\(2,\) or \(1\|B, 2\); given was \(1,\)"),
        (lambda: Exposure(0.0), ValueError, "positive and finite"),
        (lambda: Exposure(torch.ones(1, 1, 2, 2)), ValueError, "Use Shading"),
        (lambda: Exposure(torch.ones(5)).A(ONE), ValueError, r"ratio of shape \(5,\) does not fit .*\(1, 1, 4, 4\)"),
        (lambda: Shading(torch.ones(4, 4)), ValueError, r"\(B\|1, C\|1, H, W\), not \(4, 4\)"),
        (lambda: Shading(-ONE), ValueError, "finite and not negative"),
        (lambda: Crop((4, 4), top=2, left=0, height=3, width=2), ValueError, "not inside an image"),
        (lambda: Crop((5, 4), top=0, left=0, height=3, width=2).A(ONE), ValueError, r"of \(5, 4\), not \(4, 4\)"),
        (lambda: VaryingBlur(torch.ones(1, 1, 2, 2, 3), torch.ones(1, 1, 2, 4, 4)), ValueError, "odd sizes"),
        (lambda: VaryingBlur(torch.ones(1, 1, 2, 3, 3), torch.ones(1, 1, 3, 4, 4)), ValueError, "of equal K"),
        (lambda: Exposure(1.0).prox_weighted(ONE, ONE, -ONE, 1.0), ValueError, "weights must not be negative"),
        (lambda: Exposure(1.0).prox_weighted(ONE, ONE, ONE * torch.nan, 1.0), ValueError, "must not be negative"),
        (lambda: Exposure(1.0).prox_weighted(ONE, ONE, None, 0.0), ValueError, "gamma must be positive everywhere"),
        (lambda: Exposure(1.0).prox_weighted(ONE, ONE, torch.ones(3, 3), 1.0), ValueError, "weights of shape"),
    ],
)
def test_errors_say_what_was_given(call: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()  # type: ignore[operator]


def test_readout_errors() -> None:
    level = np.full((1, 1), 64.0)
    with pytest.raises(ValueError, match="white above black"):
        SensorReadout(black=level, white=level)
    with pytest.raises(ValueError, match="codes must rise"):
        SensorReadout(black=level, white=level + 10, high=-1.0)
    with pytest.raises(ValueError, match="'clipped' or 'straight-through', not 'soft'"):
        SensorReadout(black=level, white=level + 10, gradient="soft")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="belong to a mosaic"):
        SensorReadout(black=level.repeat(2, 0), white=level.repeat(2, 0) + 10)(torch.ones(1, 3, 4, 4))
