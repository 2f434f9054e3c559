"""Does a prior do what it declares? Named findings from a synthetic picture, in seconds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from physrestore.errors import NoiseOutOfRange
from physrestore.priors.adapter import apply_in_tiles
from physrestore.priors.base import Prior
from physrestore.priors.levels import TOLERANCE_OCTAVES
from physrestore.priors.probe import SMALLEST_SIDE, Probe

# A clean constant image may move by so much of the noise level, and a tile's seam may show so much of it.
TOLERATED_SHIFT = 0.1
# Results that should be equal up to the order of summation, relative to the noise level.
ROUNDING = 1e-2
# Two calls may differ by so much of the noise level: threads that add up in another order.
REPETITION = 1e-5
# Residuals may fall by so much with a rising noise level: the sampling error of one image.
RESIDUAL_SLACK = 0.02
GREYS = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class Finding:
    """One check of one prior.

    Attributes:
        name: Of the check; stable.
        passed: Whether the prior kept it.
        text: What was measured, and what it should have been.
    """

    name: str
    passed: bool
    text: str


def verify_prior(
    prior: Prior, *, image: Tensor | None = None, seed: int = 0, device: torch.device | str = "cpu"
) -> list[Finding]:
    """Check a prior against its own declaration. Checks that do not apply to it are left out.

    round_trip: shape, dtype, device and finite values, odd sizes and batches included. batch: images do not influence
    each other. deterministic: two calls agree. constant: a clean grey image stays. improves: noise of its levels
    gets less, not more. monotone: a higher level removes more. map: a noise map acts where it says. tiles: pieces
    with the declared halo equal the whole. range: other levels are refused. scale: the declared equivariance holds.

    Args:
        prior: Small images go through it about 30 times.
        image: Clean, (1, C, H, W), where the prior is made for special images; None: a synthetic picture that is
            larger than the halo.
        seed: Of the noise.
        device: Where the synthetic picture lies: that of the prior's network.

    Returns:
        In the order above, and nothing after a failed round trip; ``[f for f in verify_prior(prior) if not f.passed]``
        is what is wrong.
    """
    probe = Probe(prior, image, seed, device)
    findings = list(_round_trip(probe))
    if not findings[0].passed:
        return findings
    return findings + [finding for check in CHECKS for finding in check(probe)]


def _round_trip(probe: Probe) -> Iterator[Finding]:
    level, wrong = probe.levels[-1], []
    for dtype in (torch.float32, torch.float64):
        sides = probe.clean.shape[-2:] if probe.image is not None else (SMALLEST_SIDE - 5, SMALLEST_SIDE + 3)
        x = probe.noisy(level)[..., : sides[0], : sides[1]].to(dtype).expand(2, -1, -1, -1)
        out = probe.prior.denoise(x, level)
        for name, got, wanted in (
            ("shape", tuple(out.shape), tuple(x.shape)),
            ("dtype", out.dtype, x.dtype),
            ("device", out.device, x.device),
        ):
            wrong += [] if got == wanted else [f"{name} {got} instead of {wanted}"]
        wrong += [] if bool(torch.isfinite(out).all()) else ["values that are not finite"]
    yield Finding("round_trip", not wrong, "; ".join(wrong) or "Shape, dtype and device follow the input.")


def _batch(probe: Probe) -> Iterator[Finding]:
    level = probe.levels[-1]
    x = torch.cat([probe.noisy(level), 0.5 * probe.noisy(level)])
    together = probe.prior.denoise(x, level)
    alone = torch.cat([probe.prior.denoise(image[None], level) for image in x])
    yield _at_most("batch", together, alone, ROUNDING * level, "An image in a batch differs from it alone")


def _deterministic(probe: Probe) -> Iterator[Finding]:
    level = probe.levels[-1]
    first, second = (probe.prior.denoise(probe.noisy(level), level) for _ in range(2))
    yield _at_most("deterministic", first, second, REPETITION * level, "Two calls differ")


def _constant(probe: Probe) -> Iterator[Finding]:
    if probe.image is not None:
        return
    level = probe.levels[0]
    grey = torch.cat([torch.full_like(probe.clean, value) for value in GREYS])
    limit = TOLERATED_SHIFT * level
    yield _at_most("constant", probe.prior.denoise(grey, level), grey, limit, "A clean grey image moves")


def _improves(probe: Probe) -> Iterator[Finding]:
    for level in probe.levels:
        before = level * float(probe.noise(probe.clean).square().mean().sqrt())
        after = float((probe.prior.denoise(probe.noisy(level), level) - probe.clean).square().mean().sqrt())
        text = f"Noise of {level:.3g} becomes an error of {after:.3g}; it must get less."
        yield Finding("improves", after < before, text)


def _monotone(probe: Probe) -> Iterator[Finding]:
    if probe.prior.spec.noise not in ("map", "scalar") or len(probe.levels) == 1:
        return
    noisy = probe.noisy(probe.levels[1])
    removed = [float((probe.prior.denoise(noisy, level) - noisy).square().mean().sqrt()) for level in probe.levels]
    rises = all(later >= (1 - RESIDUAL_SLACK) * earlier for earlier, later in itertools.pairwise(removed))
    text = ", ".join(f"{amount:.3g} at {level:.3g}" for amount, level in zip(removed, probe.levels, strict=True))
    yield Finding("monotone", rises and removed[-1] > removed[0], f"Removed (rms): {text}; it must rise.")


def _map(probe: Probe) -> Iterator[Finding]:
    if probe.prior.spec.noise != "map" or probe.prior.spec.non_local:
        return
    low, high = probe.levels[0], probe.levels[-1]
    noisy = probe.noisy(high)
    middle = noisy.shape[-1] // 2
    level = torch.full_like(noisy[:, :1], low)
    level[..., middle:] = high
    mapped, weak, strong = (probe.prior.denoise(noisy, s) for s in (level, low, high))
    ratios = []
    for part, own, other in ((slice(0, middle), weak, strong), (slice(middle, None), strong, weak)):
        near = (mapped - own)[..., part].square().mean().sqrt()
        ratios.append(float(near / (mapped - other)[..., part].square().mean().sqrt()))
    text = f"Halves of two levels: distance to own over other level {ratios[0]:.2g} and {ratios[1]:.2g}; needed < 1."
    yield Finding("map", max(ratios) < 1, text)


def _tiles(probe: Probe) -> Iterator[Finding]:
    spec, level = probe.prior.spec, probe.levels[-1]
    if spec.non_local:
        return
    noisy = probe.noisy(level)
    sigma = torch.full_like(noisy[:, :1, :1, :1], level)
    pieces = apply_in_tiles(
        probe.prior.denoise, noisy, sigma, tile=noisy.shape[-1] // 3, halo=spec.halo, modulo=spec.modulo
    )
    whole = probe.prior.denoise(noisy, level)
    text = f"Tiles with a halo of {spec.halo} differ from the whole"
    yield _at_most("tiles", pieces, whole, TOLERATED_SHIFT * level, text)


def _range(probe: Probe) -> Iterator[Finding]:
    spec = probe.prior.spec
    if spec.scale_equivariant:
        return
    low, high = spec.sigma_limits
    beyond = 2 ** (2 * TOLERANCE_OCTAVES)
    for level in [high * beyond] * math.isfinite(high) + [low / beyond] * (low > 0):
        try:
            probe.prior.denoise(probe.clean, level)
        except NoiseOutOfRange:
            yield Finding("range", True, f"Refuses {level:.3g}.")
        else:
            yield Finding("range", False, f"Takes {level:.3g}, outside its range; it must raise NoiseOutOfRange.")


def _scale(probe: Probe) -> Iterator[Finding]:
    if not probe.prior.spec.scale_equivariant:
        return
    level, factor = probe.levels[-1], 0.25
    plain = probe.prior.denoise(probe.noisy(level), level)
    scaled = probe.prior.denoise(factor * probe.noisy(level), factor * level) / factor
    yield _at_most("scale", scaled, plain, ROUNDING * level, f"Image and level times {factor} change the result")


def _at_most(name: str, first: Tensor, second: Tensor, limit: float, text: str) -> Finding:
    if first.shape != second.shape:
        return Finding(name, False, f"{text}: shapes {tuple(first.shape)} and {tuple(second.shape)}.")
    gap = float((first - second).abs().max())
    return Finding(name, gap <= limit, f"{text} by {gap:.2g}; at most {limit:.2g} is allowed.")


CHECKS: tuple[Callable[[Probe], Iterator[Finding]], ...] = (
    _batch, _deterministic, _constant, _improves, _monotone, _map, _tiles, _range, _scale,
)  # fmt: skip
