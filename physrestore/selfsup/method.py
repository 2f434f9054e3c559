"""The method selfsup: adapt a copy of the shipped network to this very photo, then restore with it.

Whether the adapted network is used is decided on squares of the photo that it did not learn from; if it is not, the
result is that of the fast method. What such squares also show is whether the noise that was assumed fits the photo.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn

from noise_models.frame import RawFrame
from noise_models.sensor import SensorNoise
from physrestore.fast import FastResult, restore_fast
from physrestore.networks.mosaic_net import check_array
from physrestore.pnp.prepare import prepare
from physrestore.pnp.restore import check_frame
from physrestore.selfsup.adapt import Adapted, AdaptSettings, adapt
from physrestore.selfsup.frames import noisy_picture
from physrestore.selfsup.noise_check import NoiseCheck, check_noise
from physrestore.selfsup.tasks import Demosaicking

# Time to adapt to one photo where the user gives none [s].
DEFAULT_BUDGET = 60.0
# Of the budget this share is left for the restoration itself and the check of the noise.
ADAPT_SHARE = 0.8


@dataclass(frozen=True)
class SelfsupResult:
    """A restored picture, and what adaptation was worth.

    Attributes:
        restored: As the fast method gives it.
        adapted: The adaptation: accepted or not, scores, steps.
        check: Whether the assumed noise fits the photo.
        numbers: Both in plain numbers.
        notes: What the user should know.
        seconds: Wall time.
    """

    restored: FastResult
    adapted: Adapted
    check: NoiseCheck
    numbers: dict[str, float]
    notes: tuple[str, ...]
    seconds: float


def restore_selfsup(
    frame: RawFrame,
    noise: SensorNoise,
    *,
    network: nn.Module,
    strength: float = 100.0,
    budget_seconds: float | None = None,
    uncertainty: bool = True,
    device: torch.device | str = "cpu",
    seed: int = 0,
    settings: AdaptSettings | None = None,
    progress: Callable[[float], None] | None = None,
) -> SelfsupResult:
    """Adapt, restore, check.

    Args:
        frame: Bayer or X-Trans.
        noise: Noise of this camera at this ISO, with the gain known.
        network: To start from; never changed.
        strength: As of `restore_fast`.
        budget_seconds: Wall time for all; None: `DEFAULT_BUDGET`.
        uncertainty: Also give an expected error per value.
        device: Where to compute.
        seed: Of everything that is drawn.
        settings: Of the adaptation, its budget aside; None: the defaults.
        progress: Called with the share done, 0..1.

    Raises:
        ValueError: strength outside 0..100.
        RestoreError: a frame or a network that the fast method refuses.
        ProfileError: the noise describes other planes, or its gain is unknown.
    """
    begin = time.perf_counter()
    check_frame(frame, noise, strength)
    budget = DEFAULT_BUDGET if budget_seconds is None else budget_seconds
    chosen = replace(settings or AdaptSettings(), budget_s=ADAPT_SHARE * budget)
    check_array(frame.cfa)  # before the work, not after it
    ready = prepare(frame, noise, share=1.0)
    image = noisy_picture(ready, frame.cfa).to(device)
    generator = torch.Generator().manual_seed(seed)
    task = Demosaicking(frame.cfa)
    report = progress or (lambda _: None)

    def clock() -> float:
        now = time.monotonic()
        report(min(0.99 * ADAPT_SHARE, (time.perf_counter() - begin) / budget))
        return now

    start = copy.deepcopy(network).to(device)  # the given one is shared and stays where it is
    adapted = adapt(start, image, generator=generator, settings=chosen, task=task, clock=clock)
    check = check_noise(frame, noise, ready, adapted.network, device=device, generator=generator)
    restored = restore_fast(
        frame,
        noise,
        network=adapted.network,
        strength=strength,
        uncertainty=uncertainty,
        device=device,
        progress=lambda share: report(ADAPT_SHARE + (1.0 - ADAPT_SHARE) * share),
    )
    numbers = {
        **restored.numbers,
        "adapted": float(adapted.accepted),
        "adaptation_steps": float(adapted.steps),
        "held_out_error_before": adapted.score_before,
        "held_out_error_after": adapted.score_after if adapted.accepted else adapted.score_before,
        **check.numbers,
    }
    notes = (*restored.notes, _told(adapted), *check.notes)
    return SelfsupResult(restored, adapted, check, numbers, notes, time.perf_counter() - begin)


def _told(adapted: Adapted) -> str:
    before, after = adapted.score_before, adapted.score_after
    if adapted.accepted:
        return (
            f"Adapted to this photo in {adapted.steps} steps: the expected squared error on held-out squares fell from "
            f"{before:.4f} to {after:.4f} of the noise's variance."
        )
    return f"Adaptation ({adapted.steps} steps) was no clear gain on held-out squares: restored as by the method fast."
