"""Is the adapted network better? Judged without the truth, on places that it did not learn from.

Squares of a picture are dealt out at random: most to learn from, some to stop by, some for the verdict. Networks are
compared on the same squares with the same random numbers, so that the difference of two scores is far better known
than either. An adapted network is taken only if it is better by two standard errors of that difference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor, nn

from physrestore.selfsup.crops import Batch, NoisyImage, Place, cut
from physrestore.selfsup.losses.base import Risk, SelfLoss
from physrestore.selfsup.tasks import Task

# Side of the squares: wider than most structure and than the noise of a smoother reaches, small enough for many.
BLOCK = 16
# Fewer squares than this give no verdict: the standard error itself would be too uncertain.
FEWEST_BLOCKS = 64
# Accept at this many standard errors.
CONFIDENCE = 2.0
# Windows judged at most: 64 of 96x96 sites are 0.6 megapixels, two passes each.
MOST_WINDOWS = 64
# Squares of one window resemble each other; with at least this many windows their spread is taken into account.
FEWEST_WINDOWS = 8


class Role(IntEnum):
    """What a square is for."""

    LEARN = 0
    STOP = 1
    JUDGE = 2


@dataclass(frozen=True)
class Verdict:
    """Two networks compared; scores are squared errors in units of the variance of each square's own noise.

    Attributes:
        before: Mean score of the first over the squares, at measured values.
        after: Of the second.
        difference: Second minus first; where not all colours were measured, the mean over the three, in which a change
            of the others counts as an error.
        standard_error: Of the difference.
        blocks: Squares.
    """

    before: float
    after: float
    difference: float
    standard_error: float
    blocks: int

    @property
    def better(self) -> bool:
        """Whether the second is better by `CONFIDENCE` standard errors."""
        return self.difference < -CONFIDENCE * self.standard_error


class HeldOutGate:
    """The squares of some pictures, and how networks do on them.

    Attributes:
        images: The pictures.
        side: Of the windows in which networks see them.
        judge: Loss that scores by site: `Stein` judges a network as it is used; `Noise2Void` judges what it makes of
            masked pictures, whatever the noise.
        seed: Of the random numbers that all networks share.

    Raises:
        ValueError: fewer squares for the verdict than `FEWEST_BLOCKS`.
    """

    def __init__(
        self,
        images: Sequence[NoisyImage],
        places: Sequence[Place],
        *,
        side: int,
        judge: SelfLoss,
        shares: tuple[float, float],
        batch: int,
        generator: torch.Generator,
    ) -> None:
        """Deal out the squares.

        Args:
            images: Pictures.
            places: Windows of them, some of which are judged.
            side: Of the windows.
            judge: As above.
            shares: Of the squares to stop by, and for the verdict.
            batch: Windows a call of the network.
            generator: Deals, and draws the seed.
        """
        self.images, self.side, self.judge, self._batch = images, side, judge, batch
        self._roles = [_deal(image.values.shape[-2:], shares, generator) for image in images]
        order = torch.randperm(len(places), generator=generator).tolist()[:MOST_WINDOWS]
        self._places = [places[k] for k in sorted(order)]
        self.seed = int(torch.randint(2**62, (), generator=generator))
        count = len(self._blocks_of(Role.JUDGE))
        if count < FEWEST_BLOCKS:
            raise ValueError(
                f"These pictures hold {count} squares of {BLOCK}x{BLOCK} for the verdict, at least {FEWEST_BLOCKS} are "
                "needed. Give larger or more pictures."
            )

    def learn_masks(self) -> list[Tensor]:
        """Sites to learn from, (H, W) bool for every picture."""
        return self._masks(Role.LEARN)

    def compare(self, before: nn.Module, after: nn.Module, task: Task, role: Role) -> Verdict:
        """Two networks on the squares of a role.

        Args:
            before: Called as the task says.
            after: The same.
            task: What they are asked.
            role: Of the squares: `Role.STOP` or `Role.JUDGE`.

        Raises:
            ValueError: the first network returns values that are not finite; for the second, the difference is
                infinite.
        """
        masks, numbers = self._masks(role), _Numbers([image.values.shape[-2:] for image in self.images])
        first, second, unseen = (torch.zeros(3, numbers.count, dtype=torch.float64) for _ in range(3))
        windows = torch.zeros(numbers.count, dtype=torch.int64)
        with torch.no_grad():
            for start in range(0, len(self._places), self._batch):
                places = self._places[start : start + self._batch]
                batch = cut(self.images, places, self.side, masks)
                # The same random numbers for both, and for every comparison.
                draws = [torch.Generator().manual_seed(self.seed + start) for _ in range(2)]
                own = task.of_batch(batch)
                risks = (
                    self._measured(before, own, batch, draws[0]),
                    self._measured(after, own, batch, draws[1]),
                    own.unseen_change(before, after, batch),
                )
                for k, place in enumerate(places):
                    index = numbers.of_window(place, self.side)
                    windows[index.flatten()] = start + k
                    for sums, risk in zip((first, second, unseen), risks, strict=True):
                        if risk is not None:
                            sums.index_add_(1, index.flatten(), _by_site(risk, batch, k))
        return _verdict(first, second, unseen, windows)

    def _measured(self, network: nn.Module, task: Task, batch: Batch, generator: torch.Generator) -> Risk:
        y, noise, weights, _ = batch
        risk = self.judge.risk(
            lambda v, std: task.estimate(network, v, std), y, noise, generator=generator, weights=weights
        )
        if risk.values.shape != y.shape:
            raise ValueError(f"{type(self.judge).__name__} does not score by site: judge by Stein or Noise2Void.")
        return risk

    def _masks(self, role: Role) -> list[Tensor]:
        return [
            (roles == role)
            .repeat_interleave(BLOCK, 0)
            .repeat_interleave(BLOCK, 1)[: image.values.shape[-2], : image.values.shape[-1]]
            for image, roles in zip(self.images, self._roles, strict=True)
        ]

    def _blocks_of(self, role: Role) -> Tensor:
        """Numbers of the squares of a role that the judged windows show, with a site that counts."""
        numbers = _Numbers([image.values.shape[-2:] for image in self.images])
        masks = self._masks(role)
        shown = []
        for place in self._places:
            weights = cut(self.images, [place], self.side, masks).weights[0].amax(0) > 0
            shown.append(numbers.of_window(place, self.side)[weights.cpu()])
        blocks: Tensor = torch.cat(shown).unique()  # type: ignore[no-untyped-call]
        return blocks


class _Numbers:
    """One number for every square of every picture."""

    def __init__(self, sizes: Sequence[torch.Size]) -> None:
        self.first, self.columns, self.count = [], [], 0
        for height, width in sizes:
            self.first.append(self.count)
            self.columns.append(-(-width // BLOCK))
            self.count += -(-height // BLOCK) * self.columns[-1]

    def of_window(self, place: Place, side: int) -> Tensor:
        """(side, side) int64: the square of every site of a window."""
        rows = (torch.arange(side) + place.top) // BLOCK
        columns = (torch.arange(side) + place.left) // BLOCK
        return self.first[place.image] + rows[:, None] * self.columns[place.image] + columns


def _deal(size: torch.Size, shares: tuple[float, float], generator: torch.Generator) -> Tensor:
    drawn = torch.rand([-(-n // BLOCK) for n in size], generator=generator)
    stop, judge = shares
    roles = torch.full(drawn.shape, int(Role.LEARN))
    roles[drawn < stop + judge] = Role.JUDGE
    roles[drawn < stop] = Role.STOP
    return roles


def _verdict(first: Tensor, second: Tensor, unseen: Tensor, windows: Tensor) -> Verdict:
    """Of sums of weighted values, variances and weights by square; two of three colours are unseen, if any are."""
    known = first[2] > 0
    before, after = (sums[0][known] / sums[1][known] for sums in (first, second))
    difference = after - before
    if bool(unseen[2].any()):
        difference = (difference + 2.0 * unseen[0][known] / unseen[1][known]) / 3.0
    if not bool(torch.isfinite(before).all()):
        raise ValueError("The network returns values that are not finite: there is nothing to adapt.")
    if not bool(torch.isfinite(difference).all()):
        return Verdict(float(before.mean()), math.inf, math.inf, 0.0, len(difference))
    error = float(difference.std() / len(difference) ** 0.5)
    labels = windows[known]
    kinds: list[int] = sorted(set(labels.tolist()))
    if len(kinds) >= FEWEST_WINDOWS:
        deviation = difference - difference.mean()
        sums = torch.stack([deviation[labels == label].sum() for label in kinds])
        error = max(error, float(sums.square().sum().sqrt()) / len(difference))
    return Verdict(float(before.mean()), float(after.mean()), float(difference.mean()), error, len(difference))


def _by_site(risk: Risk, batch: Batch, k: int) -> Tensor:
    """Weighted value, weighted variance and weight of every site of one window, channels summed, (3, side^2)."""
    weight = risk.weights[k]
    parts = (risk.values[k] * weight, batch.noise.variance(batch.y)[k] * weight, weight)
    return torch.stack([part.sum(0).flatten() for part in parts]).double().cpu()
