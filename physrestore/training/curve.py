"""The log of a training as a picture: did the loss still fall when it ended?"""

from __future__ import annotations

import csv
from pathlib import Path

from physrestore.errors import TrainingError


def read_log(log: Path) -> dict[str, list[float]]:
    """Columns of a log of `physrestore.training.fit.fit`.

    Raises:
        TrainingError: no rows.
    """
    with log.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    if not rows:
        raise TrainingError(f"{log.name} has no rows: nothing was trained.")
    return {name: [float(row[name]) for row in rows] for name in rows[0]}


def write_curve(log: Path, picture: Path) -> None:
    """Draw loss and learning rate over the steps.

    Args:
        log: Of `physrestore.training.fit.fit`.
        picture: A PNG; replaced if it exists.

    Raises:
        TrainingError: no rows.
    """
    # Not pyplot: it would choose a window system and keep global state.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = read_log(log)
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    loss, rate = figure.add_subplot(), None
    loss.semilogy(columns["step"], columns["loss"], label="loss", color="tab:blue")
    loss.set(xlabel="step", ylabel="loss (mean since the last point)")
    loss.grid(visible=True, which="both", alpha=0.3)
    rate = loss.twinx()
    rate.plot(columns["step"], columns["rate"], color="tab:gray", alpha=0.6)
    rate.set(ylabel="learning rate")
    figure.savefig(picture, dpi=120, format="png")
