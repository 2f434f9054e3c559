"""Modules with a random generator that survive the way to a spawned worker."""

from __future__ import annotations

from typing import Any

import torch


class SendsGenerator:
    """Mixin, before a ``torch.nn.Module`` with an attribute ``rng``: pickles the generator as plain bytes.

    torch pickles a generator through a temporary tensor. On the way to a spawned process tensors travel as file
    descriptors; that of the temporary one is closed and given out again to the next tensor, and the process cannot be
    started ("bad value(s) in fds_to_keep").
    """

    rng: torch.Generator

    def __getstate__(self) -> dict[str, Any]:
        """The attributes, with the generator's device and state in its place."""
        state = dict(self.__dict__)
        rng = state["rng"]
        state["rng"] = (str(rng.device), rng.get_state().numpy().tobytes())
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        device, stored = state["rng"]
        generator = torch.Generator(device=device)
        generator.set_state(torch.frombuffer(bytearray(stored), dtype=torch.uint8))
        super().__setstate__({**state, "rng": generator})  # type: ignore[misc]  # that of torch.nn.Module
