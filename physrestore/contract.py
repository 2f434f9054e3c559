"""What every method of restoration is asked for and what it gives back."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from noise_models.frame import RawFrame
from noise_models.sensor import SensorNoise
from physrestore.errors import RestoreError

if TYPE_CHECKING:
    from physrestore.priors.base import Prior

# Called with the share of the work done, 0..1.
Progress = Callable[[float], None]
Pairs = tuple[tuple[float, float], ...]

SCALES = (1, 2)
# How the command line calls what a method may be asked for; errors use these words.
WORDS = {
    "prior": "--prior",
    "network": "--prior",
    "blur": "--deblur",
    "scale": "--scale",
    "burst": "--burst",
    "device": "--device",
    "budget_seconds": "--budget",
    "uncertainty": "--uncertainty",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Options:
    """What a restoration is asked for. Every method gets all of it and is refused what it does not know.

    Attributes:
        strength: 0..100; 100 removes all that is recognised as noise.
        prior: A denoiser; None: the method's own.
        prior_name: What records call the prior, with a digest of its weights where it has any: it tells finished work
            from stale. "": the name of its class.
        network: Weights for a one-pass method, e.g. adapted to one's own photos; None: the shipped ones.
        network_name: As ``prior_name``, of the network.
        blur: Kernel of the blur to undo, (h, w) with a sum of one; "estimate": measured from the picture; None: none.
        scale: Result pixels per sensor site along a line, 1 or 2.
        burst: Further frames of the same scene, to be restored together with the first.
        burst_noises: Noise of each of them; empty: that of the first.
        device: "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:1"; see `torch_device`.
        budget_seconds: Wall time that the solve may take; None: as long as it needs.
        uncertainty: Also give a standard deviation per pixel.
        seed: Of everything that is drawn.

    Raises:
        ValueError: a number outside its range, or a kernel that is none.
    """

    strength: float = 100.0
    prior: Prior | None = None
    prior_name: str = ""
    network: nn.Module | None = None
    network_name: str = ""
    blur: Tensor | Literal["estimate"] | None = None
    scale: int = 1
    burst: tuple[RawFrame, ...] = ()
    burst_noises: tuple[SensorNoise, ...] = ()
    device: str = "auto"
    budget_seconds: float | None = None
    uncertainty: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what no method can do."""
        if not 0.0 <= self.strength <= 100.0:
            raise ValueError(f"strength is 0..100, not {self.strength}.")
        if self.burst_noises and len(self.burst_noises) != len(self.burst):
            raise ValueError(f"{len(self.burst)} frames of a burst have as many noises, not {len(self.burst_noises)}.")
        if self.scale not in SCALES:
            raise ValueError(f"scale is {' or '.join(map(str, SCALES))}, not {self.scale}.")
        if self.budget_seconds is not None and not (self.budget_seconds > 0 and math.isfinite(self.budget_seconds)):
            raise ValueError(f"budget_seconds is a positive number of seconds, not {self.budget_seconds}.")
        if isinstance(self.blur, Tensor):
            _check_kernel(self.blur)
        elif self.blur not in (None, "estimate"):
            raise ValueError(f"blur is a kernel (h, w), 'estimate' or None, not {self.blur!r}.")

    @property
    def asked(self) -> frozenset[str]:
        """Names in `WORDS` of what goes beyond every method's duty. A device of "auto" or "cpu" asks for nothing."""
        wanted = {
            "prior": self.prior is not None,
            "network": self.network is not None,
            "blur": self.blur is not None,
            "scale": self.scale != 1,
            "burst": bool(self.burst),
            "device": self.device not in ("auto", "cpu"),
            "budget_seconds": self.budget_seconds is not None,
            "uncertainty": self.uncertainty,
        }
        return frozenset(name for name, is_asked in wanted.items() if is_asked)

    @property
    def torch_device(self) -> torch.device:
        """Where to compute.

        Raises:
            RestoreError: a word that is no device, or CUDA where there is none.
        """
        has_cuda = torch.cuda.is_available()
        if self.device == "auto":
            return torch.device("cuda" if has_cuda else "cpu")
        try:
            device = torch.device(self.device)
        except RuntimeError:
            device = torch.device("meta")
        if device.type not in ("cpu", "cuda"):
            raise RestoreError(f"The device is auto, cpu, cuda or cuda:N, not {self.device!r}.")
        if device.type == "cuda" and (device.index or 0) >= (torch.cuda.device_count() if has_cuda else 0):
            raise RestoreError(
                f"There is no device {self.device!r}: torch sees {torch.cuda.device_count() if has_cuda else 0} CUDA "
                "devices. Use --device cpu, or install a torch with CUDA (see `physrestore doctor`)."
            )
        return device

    @property
    def identity(self) -> dict[str, str | float | bool | None]:
        """All that decides a result, in plain types: for records and fingerprints. The device decides nothing."""
        prior = self.prior_name or ("" if self.prior is None else type(self.prior).__qualname__)
        network = self.network_name or ("" if self.network is None else type(self.network).__qualname__)
        blur = self.blur if not isinstance(self.blur, Tensor) else f"kernel {_digest(self.blur)}"
        return {
            "strength": self.strength,
            "prior": prior or None,
            "network": network or None,
            "blur": blur,
            "scale": self.scale,
            "burst": "+".join(_digest_of_frame(frame) for frame in self.burst) or None,
            "budget_seconds": self.budget_seconds,
            "uncertainty": self.uncertainty,
            "seed": self.seed,
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class Made:
    """What a method gives back.

    Attributes:
        mosaic: (H, W) uint16 [DN], pedestal, levels and array of the source.
        rgb: (3, sH, sW) linear camera RGB on the CPU, black at 0, white at 1, for a scale s; None: not demosaicked.
        uncertainty: Std of each value of ``rgb``, (3, sH, sW), or of the mosaic, (1, H, W), in linear units (white is
            1) on the CPU, NaN where it is not known; None: not asked for.
        noise_profile: Noise that remains in ``mosaic``, (S, O) per colour plane R, G, B (one pair for a monochrome
            sensor); None: not known.
        numbers: What was done, by name: counts, stds [DN], factors.
        notes: What the user should know, one sentence each.
    """

    mosaic: NDArray[np.uint16]
    rgb: Tensor | None = None
    uncertainty: Tensor | None = None
    noise_profile: Pairs | None = None
    numbers: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def refuse_beyond(options: Options, *, method: str, knows: dict[str, frozenset[str]]) -> None:
    """Refuse options that a method does not know, and say which methods do.

    Args:
        options: What is asked.
        method: Of whom.
        knows: For every method the names in `WORDS` that it knows.

    Raises:
        RestoreError: something is asked that ``method`` does not know.

    >>> refuse_beyond(Options(scale=2), method="classic", knows={"classic": frozenset(), "pnp": frozenset({"scale"})})
    Traceback (most recent call last):
        ...
    physrestore.errors.RestoreError: The method 'classic' does not know --scale. Use --method pnp.
    """
    beyond = options.asked - knows[method]
    if not beyond:
        return
    able = [name for name, known in knows.items() if options.asked <= known]
    advice = f"Use --method {' or '.join(able)}." if able else "No method knows all that is asked: ask for less."
    raise RestoreError(
        f"The method {method!r} does not know {', '.join(sorted({WORDS[name] for name in beyond}))}. {advice}"
    )


def _check_kernel(kernel: Tensor) -> None:
    if kernel.ndim != 2 or not kernel.is_floating_point() or not bool(torch.isfinite(kernel).all()):
        raise ValueError(f"A blur kernel is (h, w) of finite numbers, not {tuple(kernel.shape)} {kernel.dtype}.")
    if bool((kernel < 0).any()) or not math.isclose(float(kernel.sum()), 1.0, rel_tol=1e-3):
        raise ValueError(
            f"A blur kernel has no negative value and a sum of one; this one spans {float(kernel.min()):.3g} to "
            f"{float(kernel.max()):.3g} and has a sum of {float(kernel.sum()):.3g}."
        )


def _digest(kernel: Tensor) -> str:
    values = np.ascontiguousarray(kernel.detach().cpu().numpy(), dtype="<f4")
    return hashlib.sha256(repr(values.shape).encode() + values.tobytes()).hexdigest()[:16]


def _digest_of_frame(frame: RawFrame) -> str:
    return frame.source.sha256[:16] or hashlib.sha256(np.ascontiguousarray(frame.mosaic).tobytes()).hexdigest()[:16]
