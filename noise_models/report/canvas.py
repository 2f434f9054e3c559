"""What all figures have in common: size, colours, and the way to PNG bytes."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"R": "#d03030", "G1": "#2a9d3a", "G2": "#7cc242", "G": "#2a9d3a", "B": "#2f6fd0", "M": "#444444"}
DPI = 110
SIZE = (6.4, 4.2)  # inches; two of them fit side by side on a laptop


def blank(size: tuple[float, float] = SIZE) -> Figure:
    """An empty figure."""
    # The object API: no global state, no display, and nothing to close.
    from matplotlib.figure import Figure

    return Figure(figsize=size, dpi=DPI, layout="constrained")


def png(figure: Figure) -> bytes:
    """The figure as PNG."""
    for axes in figure.axes:
        _light(axes)
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def _light(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, color="#eeeeee", lw=0.6)
    axes.set_axisbelow(True)
