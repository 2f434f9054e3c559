"""The layers of LIDIA: matrices (rows of similar patches, features) multiplied from both sides.

A patch and its nearest neighbours form a matrix with one patch a row. A separable layer mixes rows by one small matrix
and columns by another, instead of flattening both into one large vector. Data lie as (rows, patches, features), so that
both products are single large matrix products, whatever the number of patches.

Source:
    Vaksman, Elad, Milanfar, "LIDIA: Lightweight learned image denoising with instance adaptation", NTIRE 2020,
    section 3.3 ("TRED", "TBR").
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Depth of the network that turns distances into weights.
WEIGHT_LAYERS = 6


class SeparableLayer(nn.Module):
    """``R X C + b``: rows mixed by R, columns by C; then, where asked, normalisation and a rectifier.

    Args:
        rows: How many come in and go out.
        columns: How many come in and go out.
        norm: Batch normalisation, one scale and one shift a row.
        rectify: End with a rectifier.
    """

    def __init__(
        self, rows: tuple[int, int], columns: tuple[int, int], *, norm: bool = False, rectify: bool = False
    ) -> None:
        super().__init__()
        self.row_weight = nn.Parameter(torch.empty(rows[1], rows[0]))
        self.column_weight = nn.Parameter(torch.empty(columns[1], columns[0]))
        self.bias = nn.Parameter(torch.empty(rows[1], columns[1]))
        self.norm = nn.BatchNorm1d(rows[1]) if norm else None
        self.rectify = rectify

    def reset(self, generator: torch.Generator) -> None:
        """Draw new weights that keep the size of what passes."""
        nn.init.kaiming_normal_(self.column_weight, nonlinearity="relu", generator=generator)
        nn.init.kaiming_normal_(self.row_weight, nonlinearity="linear", generator=generator)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(rows in, N, columns in) to (rows out, N, columns out)."""
        row_weight: Tensor = self.row_weight
        bias: Tensor = self.bias
        if self.norm is not None and not self.training:
            scale, shift = normalisation(self.norm)
            row_weight, bias = row_weight * scale[:, None], bias * scale[:, None] + shift[:, None]
        if row_weight.shape[0] < row_weight.shape[1]:
            # Fewer rows go out than come in: mix them first, there is less left to do.
            y = F.linear(_mix_rows(row_weight, x), self.column_weight)
        else:
            y = _mix_rows(row_weight, F.linear(x, self.column_weight))
        y = y.add_(bias[:, None])
        if self.norm is not None and self.training:
            y = self.norm(y.flatten(1)[None]).view_as(y)
        return y.relu_() if self.rectify else y


class SeparableBlock(nn.Module):
    """A separable layer with a rectifier and, in the deep network, a second one behind it, blended with a bypass.

    Args:
        rows: How many come in and go out of the first layer.
        columns: How many come in and go out of the first layer.
        norm: Whether the first layer is normalised; the second always is.
        deep: Whether there is a second layer.
    """

    def __init__(self, rows: tuple[int, int], columns: tuple[int, int], *, norm: bool, deep: bool) -> None:
        super().__init__()
        self.first = SeparableLayer(rows, columns, norm=norm, rectify=True)
        self.second = (
            SeparableLayer((rows[1], rows[1]), (columns[1], columns[1]), norm=True, rectify=True) if deep else None
        )
        self.bypass = nn.Parameter(torch.zeros(1)) if deep else None

    def forward(self, x: Tensor) -> Tensor:
        """(rows in, N, columns in) to (rows out, N, columns out)."""
        x = self.first(x)
        if self.second is None or self.bypass is None:
            return x
        return torch.lerp(self.second(x), x, self.bypass)


class RowWeights(nn.Module):
    """Weights of a patch's neighbours from how far away they are: a small fully connected network.

    Args:
        rows: Neighbours, the patch itself included.
    """

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.linear = nn.ModuleList(nn.Linear(rows, rows, bias=False) for _ in range(WEIGHT_LAYERS))
        self.norms = nn.ModuleList(nn.BatchNorm1d(rows) for _ in range(WEIGHT_LAYERS))
        self.out = nn.Linear(rows, rows)
        self.rate = nn.Parameter(torch.full((1,), 0.5))

    def reset(self, generator: torch.Generator) -> None:
        """Draw new weights; the last layer starts at weights of 1."""
        for layer in self.linear:
            assert isinstance(layer, nn.Linear)
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
        nn.init.normal_(self.out.weight, std=0.01, generator=generator)
        nn.init.ones_(self.out.bias)

    def forward(self, distances: Tensor) -> Tensor:
        """(N, rows) squared distances to (N, rows) weights of any sign."""
        x = torch.exp(-self.rate.abs() * distances)
        for linear, norm in zip(self.linear, self.norms, strict=True):
            x = F.relu(norm(linear(x)))
        weights: Tensor = self.out(x)
        return weights


def normalisation(norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """Scale and shift that a batch normalisation amounts to in evaluation mode."""
    assert norm.running_var is not None
    assert norm.running_mean is not None
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return scale, norm.bias - norm.running_mean * scale


def _mix_rows(weight: Tensor, x: Tensor) -> Tensor:
    """(out, in) times (in, N, columns)."""
    return (weight @ x.flatten(1)).view(weight.shape[0], *x.shape[1:])
