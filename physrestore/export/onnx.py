"""Weights to an ONNX file that says what its inputs mean."""

from __future__ import annotations

from pathlib import Path

from physrestore.networks.onnx import onnx_bytes
from physrestore.networks.store import Stored
from physrestore.output.publish import publish_bytes

# What a program must feed; the full story is in docs/training.md.
CONVENTIONS = {
    "MosaicNet": {
        "inputs": "mosaic, noise, colours: float32, NCHW",
        "mosaic": (
            "sqrt(g (x + 3/8 a + b/a)) - sqrt(g (3/8 a + b/a)) of every site; x = (DN - black) / (white - black), the "
            "noise of x has the variance a x + b of the site's colour, g is the colour's white-balance gain, smallest 1"
        ),
        "noise": "std of the noise of 'mosaic', sqrt(g a) / 2 of the site's colour",
        "colours": "1 for the colour that a site measures, of R, G, B; 0 for the others",
        "rgb": "noise-free values of the same space for R, G, B at every site",
    },
    "ColourNet": {
        "inputs": "x, sigma: float32, NCHW",
        "x": "R, G, B, white-balanced, the square root of linear light, white at 1",
        "sigma": "std of the Gaussian noise of x; one number, one a colour, or a map",
        "clean": "x without its noise",
    },
}


def export_onnx(stored: Stored, path: Path, *, overwrite: bool = False) -> None:
    """Write a network as ONNX, for pictures of any size.

    Args:
        stored: A `MosaicNet` or a `ColourNet`, from `physrestore.networks.store.load_network`.
        path: The file; its folder must exist.
        overwrite: Replace what is there.

    Raises:
        WeightsError: another network.
        OutputError: the file was not written.
    """
    metadata = {"architecture": stored.architecture, **stored.about, **CONVENTIONS.get(stored.architecture, {})}
    publish_bytes(path, onnx_bytes(stored.network, metadata), overwrite=overwrite)
