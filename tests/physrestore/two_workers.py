"""One of the processes of a training that ``torchrun`` started; run as a module with a folder as its argument."""

from __future__ import annotations

import sys
from pathlib import Path

from safetensors.torch import save_file
from torch import distributed

from physrestore.training.fit import fit
from physrestore.training.recipe import Recipe
from tests.physrestore.toy_tasks import Regression

RECIPE = Recipe(steps=30, learning_rate=0.01, save_every=10, log_every=5)


def main(folder: Path) -> None:
    """Train, and let every process write its own weights."""
    if distributed.is_torchelastic_launched():
        distributed.init_process_group("gloo")
    trained = fit(Regression(), RECIPE, folder)
    rank = distributed.get_rank()
    # The last weights of this process; the running mean is of the same on all.
    save_file({name: value.contiguous() for name, value in trained.network.state_dict().items()}, folder / f"{rank}")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
