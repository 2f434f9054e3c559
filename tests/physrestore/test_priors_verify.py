"""`verify_prior` passes sound priors and names the fault of every unsound one."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from physrestore.priors.base import Prior, PriorSpec
from physrestore.priors.transform import TransformPrior
from physrestore.priors.verify import verify_prior
from tests.physrestore.simple_priors import Smoother

_calls = itertools.count()


def faults(prior: Prior) -> set[str]:
    return {finding.name for finding in verify_prior(prior) if not finding.passed}


def test_a_sound_prior_passes_every_check() -> None:
    findings = verify_prior(Smoother())
    assert [finding.text for finding in findings if not finding.passed] == []
    names = {finding.name for finding in findings}
    assert names == {
        "round_trip", "batch", "deterministic", "constant", "improves", "monotone", "map", "tiles", "range"
    }  # fmt: skip


def test_the_default_prior_passes() -> None:
    assert faults(TransformPrior()) == set()


def shift_with_calls(x: Tensor) -> Tensor:
    return x + 0.01 * next(_calls)


FAULTY = {
    "round_trip, shape": ("round_trip", Smoother(after=lambda x: x[..., 1:])),
    "round_trip, dtype": ("round_trip", Smoother(after=lambda x: x.float())),
    "round_trip, nan": ("round_trip", Smoother(after=lambda x: x / (x * 0))),
    "batch": ("batch", Smoother(before=lambda x: x - x.mean() + 0.5)),
    "deterministic": ("deterministic", Smoother(after=shift_with_calls)),
    "constant": ("constant", Smoother(after=lambda x: 0.9 * x)),
    "improves": ("improves", Smoother(after=lambda x: x + 0.3 * torch.sign(x - x.mean()))),
    "monotone": ("monotone", Smoother(strength=lambda s: 0.5 * (0.3 - s))),
    "map": ("map", Smoother(strength=lambda s: s.mean() ** 2 / (0.01 + s.mean() ** 2) + 0 * s)),
    "tiles": ("tiles", Smoother(halo=0)),
    "range": ("range", Smoother(checks_level=False)),
    "scale": ("scale", Smoother(checks_level=False, scale_equivariant=True)),
}


@pytest.mark.parametrize(("check", "prior"), FAULTY.values(), ids=FAULTY.keys())
def test_a_planted_fault_is_named(check: str, prior: Prior) -> None:
    assert check in faults(prior)


def test_weights_made_for_one_level_are_caught_when_sold_for_all() -> None:
    oversold = Smoother(strength=lambda s: torch.full_like(s, 0.6))
    oversold.spec = PriorSpec(channels=None, noise="blind", sigma_range=(0.005, 0.3), halo=2)
    findings = [finding for finding in verify_prior(oversold) if finding.name == "improves"]
    assert [finding.passed for finding in findings] == [False, True, True]
    honest = Smoother(strength=lambda s: torch.full_like(s, 0.6))
    honest.spec = PriorSpec(channels=None, noise="fixed", sigma_range=(0.15, 0.15), halo=2)
    assert faults(honest) == set()
