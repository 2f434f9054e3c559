"""Losses through forward operators, and every loss inside deepinv."""

from __future__ import annotations

import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from noise_models.cfa import Cfa
from physrestore.deepinv_host import load_deepinv
from physrestore.noise import CalibratedNoise
from physrestore.operators.base import LinearOperator
from physrestore.operators.blur import Blur
from physrestore.operators.mosaic import Mosaic
from physrestore.selfsup.losses.as_deepinv import AveragedModel, as_deepinv
from physrestore.selfsup.losses.base import SelfLoss
from physrestore.selfsup.losses.equivariant import Equivariant, Shifts
from physrestore.selfsup.losses.neighbours import Neighbours
from physrestore.selfsup.losses.noise2void import Noise2Void
from physrestore.selfsup.losses.noisier import Noisier
from physrestore.selfsup.losses.operator_loss import OperatorLoss, Reconstruct
from physrestore.selfsup.losses.pixel_noise import PixelNoise
from physrestore.selfsup.losses.recorrupted import Recorrupted
from physrestore.selfsup.losses.sites import random_sites
from physrestore.selfsup.losses.splitting import Masked, Splitting
from physrestore.selfsup.losses.stein import Stein
from physrestore.selfsup.losses.thinned import Thinned
from physrestore.selfsup.losses.unsure import Unsure
from tests.physrestore.unbiased import assert_unbiased, scene, std_map

dinv = load_deepinv()
DRAWS = 300
RGGB = Cfa.parse("RGGB")
MAP = PixelNoise.of(sigma=std_map())


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def colour_scene() -> Tensor:
    x = scene()
    return torch.cat([x, 0.8 * x.flip(-1), 0.5 * x + 0.2], dim=1)


def interpolated(y: Tensor, operator: LinearOperator) -> Tensor:
    """Linear: spread what was measured, divided by how much was."""
    kernel = torch.ones(1, 1, 5, 5, dtype=y.dtype)
    sums, counts = (
        F.conv2d(part.flatten(0, 1)[:, None], kernel, padding=2).reshape(part.shape)
        for part in (operator.A_adjoint(y), operator.A_adjoint(operator.A(torch.ones(1, 3, *y.shape[-2:]).to(y))))
    )
    return sums / counts.clamp(min=1e-6)


def sharpened(y: Tensor, operator: LinearOperator) -> Tensor:
    """Two gradient steps from the adjoint: linear in y."""
    x = operator.A_adjoint(y)
    for _ in range(2):
        x = x - 0.9 * operator.A_adjoint(operator.A(x) - y)
    return x


def split_excess(
    loss: Splitting, reconstruct: Reconstruct, y: Tensor, x: Tensor, operator: LinearOperator, noise: PixelNoise
) -> Tensor:
    """Loss minus the squared error of ``A f`` at the hidden measurements, by image."""
    recorded: list[Tensor] = []

    def recorder(v: Tensor, through: LinearOperator) -> Tensor:
        recorded.append(reconstruct(v, through))
        return recorded[-1]

    hidden = random_sites(y, share=0.3, generator=drawn(5))
    values = loss.of_mask(recorder, y, operator, noise, hidden, generator=drawn(6))
    error = (operator.A(recorded[0]) - operator.A(x)).square() * hidden
    return values - error.flatten(1).sum(1) / hidden.flatten(1).sum(1)


@pytest.mark.parametrize("fill", ["zero", "neighbours"])
def test_splitting_of_mosaics_is_the_error_of_hidden_colours(fill: str) -> None:
    x, operator = colour_scene(), Mosaic(RGGB)
    y = operator.A(x).expand(DRAWS, -1, -1, -1)
    y = y + MAP.draw(y, generator=drawn())
    loss = Splitting(fill=fill, cfa=RGGB)  # type: ignore[arg-type]

    assert_unbiased(split_excess(loss, interpolated, y, x, operator, MAP))
    with pytest.raises(AssertionError, match="mean"):
        assert_unbiased(split_excess(loss, interpolated, y, x, operator, PixelNoise.of(sigma=0.12)))


def test_splitting_through_a_blur() -> None:
    x, operator = scene().float(), Blur.gaussian(1.0)
    noise = PixelNoise.of(sigma=std_map().float())
    y = operator.A(x).expand(DRAWS, -1, -1, -1)
    y = y + noise.draw(y, generator=drawn())

    assert_unbiased(split_excess(Splitting(), sharpened, y, x, operator, noise))

    def cheats(v: Tensor, _through: LinearOperator) -> Tensor:
        return sharpened(y, operator)  # the planted error: sees what judges it

    with pytest.raises(AssertionError, match="mean"):
        assert_unbiased(split_excess(Splitting(), cheats, y, x, operator, noise))


def test_masked_operators_keep_adjoint_and_closed_form() -> None:
    mask = (torch.rand(1, 1, 12, 12, generator=drawn()) < 0.6).double()
    operator = Masked(Mosaic(RGGB), mask)
    x, y = torch.rand(2, 3, 12, 12, generator=drawn(1)).double(), torch.rand(2, 1, 12, 12, generator=drawn(2)).double()

    torch.testing.assert_close((operator.A(x) * y).sum(), (x * operator.A_adjoint(y)).sum())
    near = operator.prox_weighted(x, y, 4.0, 0.5)
    torch.testing.assert_close(near, x - 0.5 * 4.0 * operator.A_adjoint(operator.A(near) - y))


def test_odd_shifts_see_what_was_not_measured_even_ones_do_not() -> None:
    """A reconstruction that adds a colour cast at sites of one phase: consistent with all data, and wrong."""
    operator, noise = Mosaic(RGGB), PixelNoise.of(sigma=1e-6)
    x = colour_scene()
    unseen = 1.0 - operator.A_adjoint(torch.ones(1, 1, *x.shape[-2:]).to(x))

    def cast(y: Tensor, through: LinearOperator) -> Tensor:
        return through.A_adjoint(y) + unseen * 0.5  # the second colour of a site is invented

    y = operator.A(x)
    odd, even = (
        Equivariant(Shifts(reach=6, multiple=m), noisy=False)(cast, y, operator, noise, generator=drawn(2)).item()
        for m in (1, 2)
    )

    assert even == pytest.approx(0.0, abs=1e-12)
    assert odd > 1e-3
    with pytest.raises(ValueError, match="1 <= multiple <= reach"):
        Shifts(reach=2, multiple=3)


def test_demosaicking_is_learned_without_ground_truth_with_odd_shifts() -> None:
    """Hidden sites of a Bayer mosaic see their colour at even distances only; missing ones have it at odd ones too.

    Splitting alone therefore never learns the weights that count; with odd shifts it does.
    """
    operator, noise = Mosaic(RGGB), PixelNoise.of(sigma=0.005)
    wave = torch.sin(torch.linspace(0, 18, 24))
    base = 0.4 + 0.2 * wave[:, None] * torch.sin(torch.linspace(0, 12, 24))
    x = torch.stack([base, 0.8 * base, 0.9 * base])[None]
    y = operator.A(x) + 0.005 * torch.randn(1, 1, 24, 24, generator=drawn())
    missing = 1.0 - operator.A_adjoint(torch.ones_like(y))

    def error(steps: int, *losses: OperatorLoss) -> float:
        kernel = torch.zeros(1, 1, 5, 5, requires_grad=True)

        def reconstruct(v: Tensor, through: LinearOperator) -> Tensor:
            parts = (through.A_adjoint(v), through.A_adjoint(through.A(torch.ones_like(x))))
            sums, counts = (F.conv2d(p.flatten(0, 1)[:, None], kernel.exp(), padding=2).reshape(p.shape) for p in parts)
            return torch.where(parts[1] > 0, parts[0], sums / counts.clamp(min=1e-3))

        optimiser, generator = torch.optim.Adam([kernel], lr=0.2), drawn(3)
        for _ in range(steps):
            optimiser.zero_grad()
            sum(loss(reconstruct, y, operator, noise, generator=generator).mean() for loss in losses).backward()  # type: ignore[union-attr]
            optimiser.step()
        with torch.no_grad():
            return ((reconstruct(y, operator) - x) * missing).square().mean().item()

    start, alone = error(0), error(40, Splitting(0.15))
    assert error(40, Splitting(0.15), Equivariant(Shifts(reach=4))) < 0.6 * start
    assert alone > 0.9 * start


def network() -> nn.Module:
    torch.manual_seed(1)
    return dinv.models.ArtifactRemoval(Pointwise(), mode="direct")  # type: ignore[no-any-return]


class Pointwise(nn.Module):
    """A denoiser that takes deepinv's sigma and a factor."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(0.7))

    def forward(self, y: Tensor, sigma: Tensor | float | None = None, **_: object) -> Tensor:
        return self.factor * y


ALL: list[SelfLoss | OperatorLoss] = [
    Recorrupted(),
    Thinned(),
    Stein(),
    Unsure(),
    Noise2Void(),
    Neighbours(),
    Noisier(),
    Splitting(),
    Equivariant(),
]


@pytest.mark.parametrize("loss", ALL, ids=lambda loss: type(loss).__name__)
def test_every_loss_is_one_of_deepinv_and_serves_batches_with_several_levels(loss: SelfLoss | OperatorLoss) -> None:
    ours = as_deepinv(loss)
    physics = dinv.physics.Denoising(CalibratedNoise(torch.tensor([0.01, 0.05]), torch.tensor([0.02, 0.1])))
    model = ours.adapt_model(network())
    y = physics(0.3 + 0.4 * torch.rand(2, 1, 16, 16, generator=drawn()))

    value = ours(x_net=model(y, physics), x=None, y=y, physics=physics, model=model)
    value.mean().backward()

    assert isinstance(ours, dinv.loss.Loss)
    assert value.shape == (2,)
    assert next(model.parameters()).grad is not None
    assert ours.adapt_model(model) is model
    assert pickle.loads(pickle.dumps(ours)).rng.get_state().equal(ours.rng.get_state())


def test_deepinv_trains_with_it() -> None:
    physics = dinv.physics.Denoising(CalibratedNoise(0.01, 0.1))
    x = torch.zeros(8, 1, 16, 16)
    data = dinv.datasets.TensorDataset(y=physics(x), use_dict_output=True)
    model = network()
    trainer = dinv.Trainer(
        model=model,
        physics=physics,
        optimizer=torch.optim.SGD(model.parameters(), lr=10.0),
        train_dataloader=torch.utils.data.DataLoader(data, batch_size=4),
        losses=[as_deepinv(Stein()), as_deepinv(Equivariant(), weight=0.1)],
        metrics=[],
        epochs=3,
        device="cpu",
        save_path=None,
        non_blocking_transfers=False,
        verbose=False,
        show_progress_bar=False,
    )

    trained = trainer.train()

    assert trained.backbone_net.factor.item() < 0.35  # of pure noise nothing is to be kept


def test_averaging_is_for_evaluation() -> None:
    ours = as_deepinv(Recorrupted(0.5), samples=64)
    physics = dinv.physics.Denoising(dinv.physics.GaussianNoise(0.1))
    model = ours.adapt_model(network())
    y = torch.rand(1, 1, 32, 32, generator=drawn())

    assert isinstance(model, AveragedModel)
    torch.testing.assert_close(model.train()(y, physics), 0.7 * y)
    added = model.eval()(y, physics) - 0.7 * y
    assert added.std().item() == pytest.approx(0.7 * 0.5 * 0.1 / 8, rel=0.2)


def both(ours: SelfLoss, theirs: nn.Module, noise_model: nn.Module, draws: int) -> tuple[Tensor, Tensor]:
    """Values of our loss and of deepinv's for the same measurements and model."""
    physics = dinv.physics.Denoising(noise_model)
    x = 0.2 + 0.6 * torch.rand(1, 1, 24, 24, generator=drawn())
    model = network()
    torch.manual_seed(2)  # deepinv draws from torch's global generator, and that of the weights is used up
    y = physics(x.expand(draws, -1, -1, -1).contiguous())
    adapted = theirs.adapt_model(model)
    options = {"update_parameters": True} if adapted is not model else {}
    x_net = adapted(y, physics, **options)
    other = torch.stack(
        [
            theirs(x_net=net[None], x=None, y=one[None], physics=physics, model=model).detach().mean()
            if adapted is model
            else (net - corrupted).square().mean().detach()
            for net, one, corrupted in zip(x_net, y, _targets(theirs, adapted, y), strict=True)
        ]
    )
    return as_deepinv(ours)(x_net=None, y=y, physics=physics, model=model).detach(), other


def _targets(theirs: nn.Module, adapted: nn.Module, y: Tensor) -> Tensor:
    """The targets of deepinv's recorruption, so that it can be taken by image."""
    if not hasattr(adapted, "get_corruption"):
        return y
    alpha: float = theirs.alpha  # type: ignore[assignment]
    return (y - (1 - alpha) * adapted.get_corruption()) / alpha  # type: ignore[operator]


def test_sure_equals_deepinvs_where_that_is_right() -> None:
    """One level for all: PG-SURE draws the same kind of probe, whose divergence is exact for a factor."""
    ours, theirs = both(
        Stein(), dinv.loss.SurePGLoss(sigma=0.05, gain=0.02), dinv.physics.PoissonGaussianNoise(0.02, 0.05), 4
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)

    ours, theirs = both(Stein(), dinv.loss.SureGaussianLoss(0.1, rng=drawn()), dinv.physics.GaussianNoise(0.1), 200)
    assert_unbiased(ours - theirs)
    ours, theirs = both(Stein(), dinv.loss.SureGaussianLoss(0.12, rng=drawn()), dinv.physics.GaussianNoise(0.1), 200)
    with pytest.raises(AssertionError, match="mean"):
        assert_unbiased(ours - theirs)


def test_recorruption_equals_deepinvs_where_that_is_right() -> None:
    """deepinv's alpha is a share of the variance, alpha^2 / (1 + alpha^2) of ours; its constant stays in its loss."""
    share = 0.2
    alpha = (share / (1 - share)) ** 0.5
    ours, theirs = both(Recorrupted(alpha), dinv.loss.R2RLoss(alpha=share), dinv.physics.GaussianNoise(0.1), 300)
    constant = 0.01 * (1 + alpha**-2)
    assert_unbiased(ours + constant - theirs)
    with pytest.raises(AssertionError, match="mean"):
        assert_unbiased(ours + 0.01 - theirs)


def test_thinning_equals_deepinvs_where_that_is_right() -> None:
    gain, share = 0.02, 0.2
    ours, theirs = both(Thinned(share), dinv.loss.R2RLoss(alpha=share), dinv.physics.PoissonNoise(gain), 300)
    torch.manual_seed(0)
    mean = (0.2 + 0.6 * torch.rand(1, 1, 24, 24, generator=drawn())).mean().item()
    assert_unbiased(ours + gain * mean / share - theirs)


@pytest.mark.filterwarnings("ignore:At least one input physics:UserWarning")  # deepinv's own splitting
def test_splitting_equals_deepinvs_of_the_same_mask() -> None:
    physics = dinv.physics.Denoising(dinv.physics.GaussianNoise(0.1))
    y = torch.rand(3, 1, 16, 16, generator=drawn())
    hidden = random_sites(y[:1], share=0.3, generator=drawn(1)).expand(y.shape)
    model = network()
    theirs = []
    for one in y.split(1):
        kept, _ = dinv.loss.SplittingLoss.split((~hidden[:1]).float(), one, physics)
        judged, through = dinv.loss.SplittingLoss.split(hidden[:1].float(), one, physics)
        theirs.append((through.A(model(kept, physics)) - judged).square().mean() / hidden[:1].float().mean())

    ours = Splitting().of_mask(model, y, physics, PixelNoise.of(sigma=0.1), hidden, generator=drawn())

    torch.testing.assert_close(ours + 0.1**2, torch.stack(theirs))


def test_equivariance_equals_deepinvs_for_the_same_shift() -> None:
    physics = dinv.physics.Denoising(dinv.physics.ZeroNoise())
    y = torch.rand(1, 1, 16, 16, generator=drawn())
    model, shift = network(), Shifts()

    def same_shift(image: Tensor) -> Tensor:
        return shift(image, drawn(4))

    theirs = dinv.loss.EILoss(same_shift, apply_noise=False)(x_net=model(y, physics), physics=physics, model=model)
    loss = Equivariant(shift, noisy=False)
    ours = loss(model, y, physics, PixelNoise.of(sigma=1.0), generator=drawn(4))

    torch.testing.assert_close(ours.mean(), theirs)


def test_neighbours_equals_deepinvs_on_average() -> None:
    physics = dinv.physics.Denoising(dinv.physics.GaussianNoise(0.1))
    y = physics(torch.rand(1, 1, 24, 24, generator=drawn())).expand(200, -1, -1, -1)
    model = network()
    torch.manual_seed(0)  # deepinv draws from torch's global generator
    theirs = [dinv.loss.Neighbor2Neighbor()(y=one[None], physics=physics, model=model).item() for one in y]

    ours = as_deepinv(Neighbours(consistency=2.0))(x_net=None, y=y, physics=physics, model=model)

    ours, other = ours.detach() + 0.01, torch.tensor(theirs)
    error = (ours.var() / 200 + other.var() / 200).sqrt().item()
    assert abs((ours.mean() - other.mean()).item()) < 5 * error
