"""Search for similar patches: every patch against all patches of a window around it, exhaustively and exactly.

The distances of one shift for all patches are one image: the squared difference of the picture and its shifted self,
summed over boxes. A box sum by doubling (`box_sum`) needs 8 additions a pixel for 7x7 and, unlike differences of
cumulative sums, cannot turn a distance of zero into rounding noise. Distances are computed tile by tile, so that memory
does not grow with the picture.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Distances held at a time: 16 MiB of float32 stay near the caches and are enough work for one call.
_BUFFER = 1 << 22
# Widest tile: the wider, the fewer rows fit, and every tile also reads the rows that its last patches reach into.
_COLUMNS = 256
# The best ``count`` lie in the ``count`` groups with the smallest minima; groups this long are the cheapest to search.
_GROUP = 7


def box_sum(x: Tensor, size: int) -> Tensor:
    """Sum over all boxes that fit: (..., H, W) to (..., H - size + 1, W - size + 1).

    Args:
        x: Values.
        size: Side of the box, at least 1.

    >>> box_sum(torch.ones(1, 4, 5), 3)
    tensor([[[9., 9., 9.],
             [9., 9., 9.]]])
    """
    return _run_sum(_run_sum(x, size, -1), size, -2)


def _run_sum(x: Tensor, size: int, dim: int) -> Tensor:
    """Sums of ``size`` consecutive values: runs of 1, 2, 4, ... are doubled and joined by the binary digits of size."""
    length = x.shape[dim] - size + 1
    total: Tensor | None = None
    run, width, start = x, 1, 0
    while True:
        if size & width:
            part = run.narrow(dim, start, length)
            total = part if total is None else total + part
            start += width
        if 2 * width > size:
            assert total is not None
            return total
        keep = run.shape[dim] - width
        run = run.narrow(dim, 0, keep) + run.narrow(dim, width, keep)
        width *= 2


def nearest_offsets(image: Tensor, *, patch: int, radius: int, count: int, step: int = 1) -> Tensor:
    """The shifts of the most similar patches around every patch, the nearest first.

    The first is always the patch itself. Distances are summed squared differences.

    Args:
        image: (B, 1, H, W), padded: patches whose window does not fit are not searched.
        patch: Samples of a patch along a side.
        radius: Shifts reach from -radius to radius samples.
        count: How many to find, the patch itself included.
        step: Pixels between neighbouring samples of a patch, and between neighbouring shifts.

    Returns:
        (B, h, w, count) int16 with h = H - step (2 radius + patch - 1): the shift (i - radius, j - radius) samples is
        written as i (2 radius + 1) + j.

    Raises:
        ValueError: an image too small for one window, or more patches asked for than a window holds.
    """
    margin = step * (2 * radius + patch - 1)
    height, width = image.shape[-2] - margin, image.shape[-1] - margin
    if height < 1 or width < 1:
        raise ValueError(
            f"An image of {tuple(image.shape[-2:])} holds no window of {margin + 1} x {margin + 1}: pad it first."
        )
    if not 1 <= count <= (2 * radius + 1) ** 2:
        raise ValueError(f"A window of {(2 * radius + 1) ** 2} patches has no {count} nearest ones.")
    found = torch.empty((*image.shape[:1], height, width, count), dtype=torch.int16, device=image.device)
    with torch.no_grad():
        for b in range(image.shape[0]):
            for row in range(step):
                for column in range(step):
                    plane = image[b, 0, row::step, column::step]
                    _search(plane, found[b, row::step, column::step], patch=patch, radius=radius)
    return found


def _search(plane: Tensor, found: Tensor, *, patch: int, radius: int) -> None:
    """Fill ``found`` (h, w, count) for one plane, a tile at a time."""
    height, width, count = found.shape
    if width == 0:  # fewer patches than steps: this offset has none
        return
    reach = 2 * radius + patch - 1
    rows = max(1, _BUFFER // ((2 * radius + 1) ** 2 * min(width, _COLUMNS)))
    for top in range(0, height, rows):
        for left in range(0, width, _COLUMNS):
            tile = found[top : top + rows, left : left + _COLUMNS]
            around = plane[top : top + tile.shape[0] + reach, left : left + tile.shape[1] + reach]
            tile.copy_(_smallest(_distances(around, patch=patch, radius=radius), count).view_as(tile))


def _distances(tile: Tensor, *, patch: int, radius: int) -> Tensor:
    """Distances of every patch to its window, (window^2, patches); a patch is at -1 from itself, so as to be first."""
    window = 2 * radius + 1
    height, width = tile.shape[0] - 2 * radius, tile.shape[1] - 2 * radius
    centre = tile[radius : radius + height, radius : radius + width]
    distances = tile.new_empty(window**2, (height - patch + 1) * (width - patch + 1))
    for i in range(window):
        # All shifts of one row of the window at once: (window, height, width) without a copy.
        shifted = tile[i : i + height].unfold(1, width, 1).transpose(0, 1)
        difference = shifted - centre
        distances[i * window : (i + 1) * window] = box_sum(difference.mul_(difference), patch).flatten(1)
    distances[window**2 // 2] = -1.0
    return distances


def _smallest(distances: Tensor, count: int) -> Tensor:
    """Indices of the ``count`` smallest of every column, ascending: (candidates, patches) to (patches, count)."""
    candidates, patches = distances.shape
    groups = candidates // _GROUP
    if groups < 2 * count:
        return distances.t().contiguous().topk(count, dim=1, largest=False).indices
    # Groups take every ``groups``-th candidate, the remainder is a group of single candidates in the second round.
    grouped = distances[: groups * _GROUP].view(_GROUP, groups, patches)
    best = grouped.amin(0).t().contiguous().topk(count, dim=1, largest=False, sorted=False).indices
    rest = torch.arange(groups * _GROUP, candidates, device=distances.device)
    members = (best[:, :, None] + groups * torch.arange(_GROUP, device=distances.device)).flatten(1)
    members = torch.cat([members, rest.expand(patches, -1)], dim=1)
    chosen = distances.t().gather(1, members).topk(count, dim=1, largest=False).indices
    return members.gather(1, chosen)
