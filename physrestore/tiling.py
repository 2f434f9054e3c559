"""Large pictures piece by piece: tiles with a halo, phase-aligned, blended without seams.

Two widths keep tiles invisible. The *halo* is read and thrown away: with a halo of at least the reach of a local
operation, tiles joined edge to edge equal the whole exactly. The *blend* is for operations that reach further (or have
no known reach): neighbouring tiles overlap by it and are faded over with weights that sum to 1 everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from physrestore.errors import RestoreError

Slices = tuple[slice, slice]


@dataclass(frozen=True)
class Tile:
    """One piece of an (H, W) picture.

    Attributes:
        read: What the operation gets to see.
        write: Where its result belongs; overlaps the neighbours' by the blend.
        inside: Where ``write`` lies inside ``read``.
        weights: Weights of the rows and of the columns of ``write``, between 0 and 1.
    """

    read: Slices
    write: Slices
    inside: Slices
    weights: tuple[Tensor, Tensor]

    @property
    def window(self) -> Tensor:
        """Weights of the result, shape of ``write``; over all tiles they sum to 1 at every pixel."""
        rows, columns = self.weights
        return rows[:, None] * columns


@dataclass(frozen=True)
class _Span:
    """One axis of a tile."""

    read: slice
    write: slice
    weights: Tensor

    @property
    def inside(self) -> slice:
        return slice(self.write.start - self.read.start, self.write.stop - self.read.start)


def tiles(
    height: int, width: int, *, tile: int = 512, halo: int = 16, blend: int = 0, align: int = 2
) -> Iterator[Tile]:
    """Cover a picture.

    Args:
        height: H.
        width: W.
        tile: Side of a tile without halo and blend.
        halo: Extra border that is read and discarded.
        blend: Width over which neighbours are faded into each other.
        align: Starts of ``read`` and ``write`` are multiples of it: 2 keeps a Bayer phase, 6 that of X-Trans.

    Raises:
        ValueError: widths that are not multiples of ``align``, a tile that is empty or narrower than the blend.
    """
    for name, value in (("tile", tile), ("halo", halo), ("blend", blend)):
        if value < 0 or value % align:
            raise ValueError(f"{name} must be a multiple of align={align}, not {value}.")
    if tile <= 0 or blend > tile or blend % (2 * align):
        raise ValueError(f"blend must be a multiple of {2 * align} and at most the tile's {tile}, not {blend}.")
    rows, columns = (list(_spans(size, tile=tile, halo=halo, blend=blend, align=align)) for size in (height, width))
    for row in rows:
        for column in columns:
            yield Tile(
                read=(row.read, column.read),
                write=(row.write, column.write),
                inside=(row.inside, column.inside),
                weights=(row.weights, column.weights),
            )


def map_tiles(
    function: Callable[[Tensor], Tensor],
    planes: Tensor,
    *,
    tile: int = 512,
    halo: int = 16,
    blend: int = 0,
    align: int = 2,
    on_tile: Callable[[int], None] | None = None,
) -> Tensor:
    """Apply an operation tile by tile: memory is bounded by the tile, not by the picture.

    Args:
        function: (C, h, w) to (D, h, w), any h and w.
        planes: (C, H, W).
        tile: As in `tiles`, like ``halo``, ``blend`` and ``align``.
        halo: See ``tile``.
        blend: See ``tile``.
        align: See ``tile``.
        on_tile: Called with the pixels written after each tile.

    Returns:
        (D, H, W).
    """
    result: Tensor | None = None
    height, width = planes.shape[-2:]
    pieces = tiles(height, width, tile=tile, halo=halo, blend=blend, align=align)
    # The largest first: what it frees serves all that follow, where growing ones would each ask for new memory.
    for piece in sorted(pieces, key=_pixels_read, reverse=True):
        out = function(planes[(slice(None), *piece.read)])[(slice(None), *piece.inside)]
        if result is None:
            result = out.new_zeros((out.shape[0], height, width))
        window = piece.window
        result[(slice(None), *piece.write)].addcmul_(out, window.to(out))
        if on_tile is not None:
            on_tile(window.numel())
    assert result is not None
    return result


def map_tiles_within_memory(
    function: Callable[[Tensor], Tensor],
    planes: Tensor,
    *,
    tile: int,
    smallest: int,
    halo: int,
    blend: int,
    align: int,
    on_retry: Callable[[int], None] | None = None,
) -> tuple[Tensor, int]:
    """`map_tiles` that starts again with tiles of half the side when memory runs out.

    Args:
        function: As in `map_tiles`, like ``planes``, ``halo``, ``blend`` and ``align``.
        planes: See ``function``.
        tile: Side of the first try.
        smallest: Side below which a tile is not worth its halo; a multiple of ``align``.
        halo: See ``function``.
        blend: See ``function``.
        align: See ``function``.
        on_retry: Called with the side of every further try.

    Returns:
        (D, H, W), and the side of the tiles that fitted.

    Raises:
        RestoreError: memory runs out with the smallest tiles, too.
    """
    while True:
        try:
            return map_tiles(function, planes, tile=tile, halo=halo, blend=blend, align=align), tile
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if tile <= smallest:
                raise RestoreError(
                    f"Memory runs out even with tiles of {tile}x{tile} pixels ({error}). Close other programs, "
                    "or compute elsewhere (--device cpu)."
                ) from error
        # Outside the handler: the traceback held the tile's tensors until here.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        tile = max(smallest, tile // 2 // align * align)
        if on_retry is not None:
            on_retry(tile)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, in Python, on a CUDA device, or in torch's allocator of the CPU."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    # The allocator of the CPU has no error class of its own; this is its text.
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def _pixels_read(piece: Tile) -> int:
    rows, columns = piece.read
    return int((rows.stop - rows.start) * (columns.stop - columns.start))


def _spans(size: int, *, tile: int, halo: int, blend: int, align: int) -> Iterator[_Span]:
    """Spans of about equal length along one axis; one is added where more than half a tile remains.

    Equal tiles need equal memory: what one frees the next one takes.
    """
    whole, remainder = divmod(size, tile)
    count = max(1, whole + (remainder > 0 and remainder >= max(tile // 2, blend)))
    starts = [k * size // count // align * align for k in range(count)]
    for k, start in enumerate(starts):
        stop = size if k + 1 == len(starts) else starts[k + 1]
        first, last = start == 0, stop == size
        low = start if first else start - blend // 2
        high = stop if last else min(stop + blend // 2, size)
        yield _Span(
            read=slice(max(low - halo, 0), min(high + halo, size)),
            write=slice(low, high),
            weights=_weights(high - low, blend=blend, fade_in=not first, fade_out=not last),
        )


def _weights(length: int, *, blend: int, fade_in: bool, fade_out: bool) -> Tensor:
    """1 in the middle, a straight ramp at faded ends; the ramps of two neighbours add up to 1."""
    weights = torch.ones(length)
    ramp = (torch.arange(blend) + 0.5) / max(blend, 1)
    if fade_in:
        weights[:blend] *= ramp
    if fade_out:
        weights[length - blend :] *= ramp.flip(0)
    return weights
