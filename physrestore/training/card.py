"""The model card: what a reader must know before trusting a network, in one page of Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Card:
    """What is told of a trained network.

    Attributes:
        title: Name of the file of weights.
        purpose: What it does, one sentence.
        noise_range: For which noise.
        data: What it was trained on.
        recipe: Settings of the training by name.
        quality: What was measured, and on what.
        limits: What it cannot do, one sentence each.
        licence: Of the weights.
    """

    title: str
    purpose: str
    noise_range: str
    data: str
    recipe: Mapping[str, object]
    quality: str
    limits: tuple[str, ...]
    licence: str

    def markdown(self) -> str:
        """The card as text."""
        recipe = "\n".join(f"| {name} | {value} |" for name, value in self.recipe.items())
        limits = "\n".join(f"- {limit}" for limit in self.limits)
        return (
            f"# {self.title}\n\n{self.purpose}.\n\n"
            f"## Noise range\n\n{self.noise_range}.\n\n"
            f"## Data\n\n{self.data}\n\n"
            f"## Recipe and seed\n\n| setting | value |\n|---|---|\n{recipe}\n\n"
            f"## Quality\n\n{self.quality}\n\n"
            f"## Limits\n\n{limits}\n\n"
            f"## Licence\n\n{self.licence}\n"
        )
