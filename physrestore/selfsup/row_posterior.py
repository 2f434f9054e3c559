"""Row noise in closed form: what a row has in common is the sensor's, as far as the prediction's own error is not.

A row measures ``y_j = mu_j + d_j + s_j (c + r) + n_j``: the prediction mu, its error d ~ N(0, v), the noise
n ~ N(0, n_j), the sensor's offset r ~ N(0, 1) in units of the calibrated row noise s, and an error of the prediction
that the row shares, c ~ N(0, k). The light is ``mu + d + s c``. With ``D = v + n``, ``e = y - mu`` and the row sums
``S = sum s^2 / D``, ``T = sum s e / D``, ``q = 1 + (1 + k) S``

    r = T / q                  c = k T / q
    x = mu + s c + v / D (e - s (c + r))
    Var x = v n / D + s^2 [(1-w)^2 Var c + w^2 Var r - 2 w (1-w) Cov],  w = v / D,
    Var r = 1 - S / q,  Var c = k - k^2 S / q,  Cov = -k S / q

    -log p(y) = 1/2 [sum e^2 / D - T^2 (1 + k) / q + sum log D + log q + N log 2 pi]

by Sherman and Morrison. The row's own pixels must not have been seen by the prediction (two rotations), else mu already
holds a share of r. That errors are independent along a row is not true of real predictions (an edge along the row, a
young network): k takes up what is common, and is measured from the spread of the row means themselves.

Source: Sherman, Morrison, Ann. Math. Statist. 21(1), 1950 (inverse of a rank-one change).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from physrestore.selfsup.posterior import LOG_2PI, Posterior

# In the row's sums, an error beyond this many sigmas counts as one of this many: an edge the prediction missed must
# not move the whole row (Huber's estimator).
ROBUST_SIGMAS = 3.0
# Rows whose noise leaves less information than this about the offset say nothing about its spread.
LEAST_INFORMATION = 1.0
# The median of the square of a standard normal value.
MEDIAN_CHI2 = 0.454936


@dataclass(frozen=True)
class RowEvidence:
    """What rows say, in units of the calibrated row noise.

    Attributes:
        information: S of every row, (B, 1, H, 1); 0 where row noise is 0.
        moment: T of every row, same shape.
    """

    information: Tensor
    moment: Tensor

    @classmethod
    def of(
        cls, error: Tensor, total: Tensor, row: Tensor, measured: Tensor, *, robust_sigmas: float | None = None
    ) -> RowEvidence:
        """Sum along the rows.

        Args:
            error: e, (B, 1, H, W).
            total: D, same shape.
            row: s, same shape.
            measured: Sites that take part, bool, same shape.
            robust_sigmas: Limit on ``|e| / sqrt(D)``; None: the exact sums.
        """
        if robust_sigmas is not None:
            limit = robust_sigmas * total.sqrt()
            error = error.clamp(-limit, limit)
        weight = torch.where(measured, row / total, torch.zeros_like(total))
        return cls((weight * row).sum(-1, keepdim=True), (weight * error).sum(-1, keepdim=True))

    def plus(self, other: RowEvidence) -> RowEvidence:
        """Evidence of two parts of the same rows."""
        return RowEvidence(self.information + other.information, self.moment + other.moment)

    def centred(self) -> RowEvidence:
        """The same with the median row's error taken off: what all rows share is the prediction's, not row noise."""
        told = self.information > LEAST_INFORMATION
        if not bool(told.any()):
            return self
        middle = (self.moment[told] / self.information[told]).median()
        return RowEvidence(self.information, self.moment - self.information * middle)

    def common_error(self) -> float:
        """k: by how much the row means spread more than row noise and pixel noise explain, at least 0.

        Robust (a median of squares): some rows lie along an edge of the scene and tell nothing of the others.
        """
        told = self.information > LEAST_INFORMATION
        if not bool(told.any()):
            return 0.0
        information, moment = self.information[told].double(), self.moment[told].double()
        excess = (moment / information).square() / MEDIAN_CHI2 - 1.0 / information
        return max(0.0, float(excess.median()) - 1.0)

    def offsets(self, common: float = 0.0) -> Tensor:
        """R of every row in units of the row noise, (B, 1, H, 1)."""
        return self.moment / (1.0 + (1.0 + common) * self.information)


def row_nll(error: Tensor, total: Tensor, row: Tensor, measured: Tensor, *, common: float = 0.0) -> Tensor:
    """Exact negative log marginal likelihood of every row, (B, 1, H, 1).

    Args:
        error: e = y - mu, (B, 1, H, W).
        total: D, same shape.
        row: s, same shape.
        measured: Sites that take part, bool, same shape.
        common: k.
    """
    sums = RowEvidence.of(error, total, row, measured)
    q = 1.0 + (1.0 + common) * sums.information
    each = torch.where(measured, error.square() / total + total.log() + LOG_2PI, torch.zeros_like(total))
    return 0.5 * (each.sum(-1, keepdim=True) - sums.moment.square() * (1.0 + common) / q + q.log())


def row_posterior(
    mean: Tensor,
    variance: Tensor,
    noise: Tensor,
    light: Tensor,
    row: Tensor,
    measured: Tensor,
    *,
    evidence: RowEvidence | None = None,
    common: float = 0.0,
) -> Posterior:
    """The light of every site given its whole row.

    Args:
        mean: mu, (B, 1, H, W).
        variance: v, same shape.
        noise: n, same shape.
        light: y, same shape.
        row: s, same shape.
        measured: Sites whose value is a measurement, bool, same shape; the others keep ``mu + s c``.
        evidence: Of the whole rows, where these are a part of them, or robust; None: the exact sums of these.
        common: k.
    """
    total = variance + noise
    error = light - mean
    if evidence is None:
        evidence = RowEvidence.of(error, total, row, measured)
    q = 1.0 + (1.0 + common) * evidence.information
    offset = evidence.moment / q
    shared = common * offset
    weight = torch.where(measured, variance / total, torch.zeros_like(total))
    moved = torch.where(measured, error - row * (shared + offset), torch.zeros_like(error))
    own = torch.where(measured, variance * noise / total, variance)
    var_offset, var_shared = 1.0 - evidence.information / q, common - common**2 * evidence.information / q
    covariance = -common * evidence.information / q
    rest = 1.0 - weight
    lines = rest.square() * var_shared + weight.square() * var_offset - 2.0 * weight * rest * covariance
    return Posterior(mean + row * shared + weight * moved, own + row.square() * lines)
