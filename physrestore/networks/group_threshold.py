"""Soft groups of similar patches, and the shrinkage that makes them choose their atoms together.

Source:
    Lecouat, Ponce, Mairal, "Fully trainable and interpretable non-local sparse models for image restoration", ECCV
    2020: equations 10 (relaxed group-Lasso prox) and 12 (similarity).
"""

from __future__ import annotations

import torch
from torch import Tensor

# Below this energy [signal^2] a group counts as empty; it keeps the derivative of the root finite.
EMPTY = 1e-8


def window_of(height: int, width: int, radius: int) -> Tensor:
    """Which of h x w patches are in whose window, (h w, h w) bool.

    Args:
        height: Rows of patches, h.
        width: Patches in a row, w.
        radius: Windows reach that many patches to all sides.
    """
    row, column = torch.arange(height * width) // width, torch.arange(height * width) % width
    return ((row[:, None] - row).abs() <= radius) & ((column[:, None] - column).abs() <= radius)


def soft_similarity(features: Tensor, window: Tensor) -> Tensor:
    """``exp(-|f_i - f_j|^2)`` inside the window, 0 outside.

    Args:
        features: (B, n, d), what patches are compared by.
        window: (n, n) bool.

    Returns:
        (B, n, n), symmetric, 1 on the diagonal.
    """
    norm = features.square().sum(2)
    product = features @ features.transpose(1, 2)
    distance = (norm[:, :, None] + norm[:, None, :] - 2 * product).clamp(min=0.0)
    return torch.exp(-distance) * window


def group_threshold(codes: Tensor, similarity: Tensor, threshold: Tensor) -> Tensor:
    """Shrink every coefficient by what the similar patches have in the same atom.

    A coefficient goes to zero where the root mean square of its group, ``sqrt(sum_j s_ij a_j^2 / sum_j s_ij)``, is
    below the threshold, however large it is itself.

    Args:
        codes: (B, n, atoms).
        similarity: (B, n, n), from `soft_similarity`.
        threshold: (atoms,).

    >>> alone = torch.eye(2)[None]  # groups of one patch: soft thresholding
    >>> group_threshold(torch.tensor([[[3.0], [-0.5]]]), alone, torch.tensor([1.0])).flatten()
    tensor([2.0000, -0.0000])
    """
    members = similarity.sum(2, keepdim=True)
    energy = similarity @ codes.square()
    return torch.relu(1.0 - threshold * (members / (energy + EMPTY)).sqrt()) * codes
