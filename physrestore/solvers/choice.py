"""One of a few strengths, chosen by estimates of the error that each leaves."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

# restore(data, measured, strength) -> predicted data A x; where ``measured`` is false the data carry no information.
Predict = Callable[[Tensor, Tensor, float], Tensor]


@dataclass(frozen=True)
class Choice:
    """The chosen strength and its evidence.

    Attributes:
        strength: The candidate with the lowest score.
        candidates: All that were tried.
        scores: Estimated mean of (A x - true signal)^2 / variance of each; of the image x itself by "half-scale".
        errors: Standard error of each score's difference to the lowest.
        method: How the scores were made, in words.
    """

    strength: float
    candidates: tuple[float, ...]
    scores: tuple[float, ...]
    errors: tuple[float, ...]
    method: str

    @property
    def between(self) -> float:
        """Where the parabola through the lowest score and its neighbours is lowest, over the logarithm of strength.

        The best of a few strengths is rarely among them; this one is found without another solve. At an end of the
        candidates it is that end: nothing says how the score goes on.

        >>> Choice(1.0, (0.5, 1.0, 2.0), (0.04, 0.01, 0.02), (0.0,) * 3, "").between
        1.189...
        """
        pairs = sorted(zip(self.candidates, self.scores, strict=True))
        middle = min(range(len(pairs)), key=lambda k: pairs[k][1])
        if middle in (0, len(pairs) - 1):
            return pairs[middle][0]
        (a, f), (b, g), (c, h) = ((math.log(strength), score) for strength, score in pairs[middle - 1 : middle + 2])
        left, right = (g - f) / (b - a), (h - g) / (c - b)
        # Neither slope points below the middle; both are flat only if all three scores are the same.
        share = left / (left - right) if left < right else 0.5
        return math.exp(0.5 * ((a + b) + share * (c - a)))


def choose(scores: Sequence[Tensor], candidates: Sequence[float], *, method: str) -> Choice:
    """The candidate with the lowest mean score.

    Args:
        scores: For every candidate the scores of the same sites, (n,). Errors are of differences site by site, in
            which the noise that the candidates share cancels.
        candidates: As many.
        method: For the record.

    Raises:
        ValueError: no candidate.
    """
    if not scores:
        raise ValueError("No strength to choose from: give at least one candidate.")
    means = [float(score.mean()) for score in scores]
    best = min(range(len(means)), key=means.__getitem__)
    errors = tuple(float((score - scores[best]).std() / score.numel() ** 0.5) for score in scores)
    return Choice(candidates[best], tuple(candidates), tuple(means), errors, method)


def blend(first: Choice, second: Choice, *, share: float) -> Choice:
    """The choice by ``share`` of the first's scores and the rest of the second's; their errors count as independent.

    Raises:
        ValueError: the candidates differ.
    """
    if first.candidates != second.candidates:
        raise ValueError(f"Choices of different candidates: {first.candidates} and {second.candidates}.")
    pairs = list(zip(first.scores, second.scores, strict=True))
    scores = tuple(share * a + (1 - share) * b for a, b in pairs)
    spread = zip(first.errors, second.errors, strict=True)
    errors = tuple(((share * a) ** 2 + ((1 - share) * b) ** 2) ** 0.5 for a, b in spread)
    best = min(range(len(scores)), key=scores.__getitem__)
    method = f"{share:.0%} {first.method}, {1 - share:.0%} {second.method}"
    return Choice(first.candidates[best], first.candidates, scores, errors, method)
