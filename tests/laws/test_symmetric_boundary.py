"""The boundary that repeats the outermost site: against scipy, a dense solution, and the one cosine transform knows."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from scipy import fft, ndimage

from physrestore.operators.blur import Blur, SeparableBlur
from physrestore.operators.boundary import mirrored
from physrestore.operators.conjugate_gradient import InexactSolution
from physrestore.operators.varying import VaryingBlur
from tests.laws import operator_laws as laws
from tests.laws.operator_table import random, skew_kernel

SHAPE = (1, 2, 9, 12)


@pytest.mark.parametrize("size", [(3, 5), (4, 2), (7, 9)])
def test_blur_is_scipys_convolution(size: tuple[int, int]) -> None:
    kernel, x = skew_kernel(*size), random((1, 1, 9, 12), 1)

    expected = ndimage.convolve(x[0, 0].numpy(), kernel.numpy(), mode="reflect")  # scipy's name of it
    other = Blur(kernel, boundary="reflect").A(x)[0, 0].numpy()

    np.testing.assert_allclose(Blur(kernel, boundary="symmetric").A(x)[0, 0].numpy(), expected, atol=1e-12)
    assert np.abs(other - expected).max() > 1e-2, "mirroring about the site itself is another boundary"


def test_a_mirrored_kernel_acts_on_the_cosine_transform() -> None:
    """The blur multiplies every cosine by a number: the same for every image."""
    operator = Blur.gaussian(0.8, boundary="symmetric")
    x, other = (random(SHAPE, seed) for seed in (1, 2))

    gains = [fft.dctn(operator.A(v).numpy(), axes=(2, 3)) / fft.dctn(v.numpy(), axes=(2, 3)) for v in (x, other)]

    np.testing.assert_allclose(*gains, atol=1e-9)
    assert gains[0][0, 0, 0, 0] == pytest.approx(1.0)


def no_iteration(operator: Blur | SeparableBlur, weights: torch.Tensor) -> torch.Tensor:
    z, y, _ = laws.data(operator, SHAPE, torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("error", InexactSolution)
        return operator.prox_weighted(z, y, weights, 3.0, max_iter=0)


@pytest.mark.parametrize("make", [Blur.gaussian, SeparableBlur.gaussian])
def test_the_prox_of_a_mirrored_kernel_is_a_closed_form(make: type) -> None:
    operator = make(0.8, boundary="symmetric")
    weights = torch.tensor([[2.0, 5.0]], dtype=torch.float64)
    z, y, _ = laws.data(operator, SHAPE, torch.float64)
    matrix = laws.dense(operator, SHAPE)
    w = weights[..., None, None].expand_as(y).flatten()
    normal = matrix.T @ (w[:, None] * matrix) + torch.eye(len(w), dtype=torch.float64) / 3.0

    expected = torch.linalg.solve(normal, matrix.T @ (w * y.flatten()) + z.flatten() / 3.0)

    torch.testing.assert_close(no_iteration(operator, weights).flatten(), expected, rtol=0, atol=1e-12)


def test_other_kernels_and_weights_are_iterated() -> None:
    weights = torch.ones(1, 1, 9, 12, dtype=torch.float64)
    for operator, w in (
        (Blur(skew_kernel(), boundary="symmetric"), weights[..., :1, :1]),
        (Blur.gaussian(0.8, boundary="symmetric"), weights),
        (Blur.gaussian(0.8, boundary="reflect"), weights[..., :1, :1]),
    ):
        with pytest.raises(InexactSolution):
            no_iteration(operator, w)


def test_the_inverse_is_that_of_the_matrix() -> None:
    operator, y = Blur.gaussian(0.4, boundary="symmetric"), random(SHAPE, 3)

    expected = torch.linalg.solve(laws.dense(operator, SHAPE), y.flatten())

    torch.testing.assert_close(operator.A_dagger(y).flatten(), expected, rtol=0, atol=1e-9)


def test_one_period_is_the_image_and_its_mirror_images() -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])

    assert mirrored(x).tolist() == [[1, 2, 2, 1], [3, 4, 4, 3], [3, 4, 4, 3], [1, 2, 2, 1]]


def test_the_varying_blur_does_not_know_it() -> None:
    with pytest.raises(ValueError, match="one of circular, reflect, unobserved, not 'symmetric'"):
        VaryingBlur(torch.ones(1, 1, 1, 3, 3), torch.ones(1, 1, 1, 4, 4), boundary="symmetric")
