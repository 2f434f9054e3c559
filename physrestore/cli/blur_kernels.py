"""``--deblur gaussian:SIGMA|FILE|estimate``: the one place where such a word becomes a kernel."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

if TYPE_CHECKING:
    from torch import Tensor

_WANTED = "gaussian:SIGMA (in pixels, e.g. gaussian:0.8), an image or .npy file of the kernel, or estimate"


def blur_of(word: str) -> Tensor | Literal["estimate"]:
    """The kernel of a word, (h, w) with a sum of one and odd sides; "estimate" stays a word.

    Raises:
        BadParameter: no such form or file, or a file that holds no kernel.
    """
    if word == "estimate":
        return "estimate"
    kind, _, value = word.partition(":")
    if kind == "gaussian" and value:
        from physrestore.operators.kernels import gaussian_profile

        try:
            profile = gaussian_profile(float(value)).float()
        except ValueError as error:
            raise typer.BadParameter(f"{word!r}: {error} Give {_WANTED}.") from error
        return profile[:, None] * profile
    path = Path(word)
    if not path.is_file():
        raise typer.BadParameter(f"{word!r} is neither a file nor a kernel. Give {_WANTED}.")
    return _from_file(path)


def _from_file(path: Path) -> Tensor:
    import numpy as np
    import torch
    from PIL import Image, UnidentifiedImageError

    try:
        if path.suffix == ".npy":
            values = np.load(path, allow_pickle=False)
        else:
            with Image.open(path) as image:
                values = np.asarray(image.convert("F"))
    except (OSError, ValueError, UnidentifiedImageError) as error:
        raise typer.BadParameter(f"{path.name!r} cannot be read as a kernel: {error}.") from error
    is_kernel = values.ndim == 2 and np.issubdtype(values.dtype, np.number) and not np.iscomplexobj(values)
    if not is_kernel or not np.isfinite(values).all() or (values < 0).any() or not values.sum() > 0:
        raise typer.BadParameter(
            f"{path.name!r} holds no kernel: needed are (h, w) numbers, none below zero, not all zero; it has shape "
            f"{values.shape}."
        )
    if not all(side % 2 for side in values.shape):
        raise typer.BadParameter(
            f"{path.name!r} is {values.shape[0]}x{values.shape[1]}; a kernel has odd sides, so that it has a middle."
        )
    return torch.from_numpy((values / values.sum()).astype(np.float32))
