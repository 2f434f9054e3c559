"""A network for one camera at one ISO as darktable's raw denoiser: a ``.dtmodel`` file.

darktable tells a model nothing of the noise, so the calibrated law is built into the graph: darktable gives packed
camera RGB, the graph goes to the working space, restores, and goes back.

Source: darktable, src/common/ai/restore.h ("bayer_v1 input contract") and src/common/ai_models.c (layout of the
archive); darktable-ai, models/rawdenoise-nind/model.yaml (the manifest), all of 2026. Not tried in a running darktable.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import physrestore
from noise_models.cfa import BAYER_PLANES, Cfa
from noise_models.errors import ProfileError
from noise_models.profile import CameraProfile
from noise_models.sampling import ProfileLaw
from noise_models.stabilise import ANSCOMBE_OFFSET
from physrestore.errors import WeightsError
from physrestore.networks.mosaic_net import MosaicNet
from physrestore.networks.onnx.graph import Graph
from physrestore.networks.onnx.translate import emit_mosaic_net
from physrestore.networks.store import Stored
from physrestore.output.publish import publish_bytes
from physrestore.working_space import one_hot, working_black, working_noise

# Side of darktable's tiles in packed pixels. Neighbours overlap by 32 of them, 64 sites: more than our own halo of 48.
TILE = 512
# White-balance gains of R, G, B: daylight of usual sensors. The photo's own gains darktable only multiplies in, which
# hides the noise law; the network was trained on gains from 1.2 to 2.6, so the exact value matters little.
DAYLIGHT = (2.0, 1.0, 1.6)
# Colours of the planes R, G1, G2, B.
_COLOUR_OF_PLANE = [0, 1, 1, 2]
MODEL_FILE = "model_bayer.onnx"


@dataclass(frozen=True)
class CameraLaw:
    """The noise that is built in.

    Attributes:
        name: Of camera and ISO, for people.
        a: Of R, G, B, (1, 3): the variance of x in 0..1 is ``a x + b``.
        b: The same.
        balance: White-balance gains of R, G, B, (1, 3).
    """

    name: str
    a: Tensor
    b: Tensor
    balance: Tensor

    @classmethod
    def of(
        cls,
        camera: CameraProfile,
        iso: float,
        *,
        balance: tuple[float, float, float] = DAYLIGHT,
        white_level: float | None = None,
    ) -> CameraLaw:
        """The law of a profile at an ISO.

        Args:
            camera: Bayer.
            iso: Any that the profile covers.
            balance: White-balance gains.
            white_level: Highest code [DN], where the profile has none.

        Raises:
            ProfileError: not Bayer, a gain or white level that is unknown, or an ISO that is not covered.
        """
        if not Cfa.parse(camera.cfa).is_bayer:
            raise ProfileError(f"darktable's contract is for Bayer mosaics; {camera.model!r} has {camera.cfa}.")
        drawn = ProfileLaw(camera, isos=[iso], white_level=white_level).draw(1, generator=torch.Generator())
        order = [drawn.planes.index(plane) for plane in BAYER_PLANES]
        a, b = (_colours(values[:, order]) for values in (drawn.a, drawn.b))
        return cls(f"{camera.make} {camera.model} ISO {iso:g}", a, b, torch.tensor([balance]))

    @property
    def identifier(self) -> str:
        """Lower case with hyphens, as darktable names models."""
        return "rawdenoise-physrestore-" + re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")


def export_darktable(stored: Stored, law: CameraLaw, path: Path, *, overwrite: bool = False) -> None:
    """Write a ``.dtmodel``: a zip of ``ID/config.json`` and ``ID/model_bayer.onnx``.

    Args:
        stored: A `MosaicNet`.
        law: Of the camera and ISO whose photos it is for.
        path: Ends in ``.dtmodel``; its folder must exist.
        overwrite: Replace what is there.

    Raises:
        WeightsError: another network.
        OutputError: the file was not written.
    """
    if not isinstance(stored.network, MosaicNet):
        raise WeightsError(f"darktable's raw denoiser takes mosaics; {stored.architecture} does not. Give a MosaicNet.")
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in (
            ("config.json", json.dumps(manifest(law), indent=2).encode()),
            (MODEL_FILE, darktable_model(stored.network, law, metadata=stored.about)),
        ):
            # A fixed date, so that the same network makes the same file.
            archive.writestr(zipfile.ZipInfo(f"{law.identifier}/{name}", (1980, 1, 1, 0, 0, 0)), data)
    publish_bytes(path, content.getvalue(), overwrite=overwrite)


def manifest(law: CameraLaw) -> dict[str, object]:
    """The manifest ``config.json``; the contract under both keys that its versions of 2026 read."""
    contract = {
        "input_kind": "bayer_v1",
        "bayer_orientation": "force_rggb",
        "edge_pad": "mirror_cropped",
        "wb_norm": "none",
        "output_scale": "absolute",
    }
    return {
        "id": law.identifier,
        "name": f"physrestore {law.name}",
        "description": f"Joint demosaicking and denoising for the calibrated noise of {law.name}",
        "task": "rawdenoise",
        "arch": "physrestore-mosaic",
        "backend": "onnx",
        "version": physrestore.__version__,
        "tiling": True,
        "type": "multi",
        "attributes": {
            "input_sizes": [TILE],
            "variants": {"bayer": {"onnx": MODEL_FILE, **contract}},
            Path(MODEL_FILE).stem: contract,
        },
    }


def darktable_model(network: MosaicNet, law: CameraLaw, *, metadata: dict[str, str], tile: int = TILE) -> bytes:
    """The graph: packed R, G1, G2, B of camera RGB (1, 4, T, T) to camera RGB (1, 3, 2T, 2T), black at 0, white at 1.

    Args:
        network: Restores in the working space.
        law: Of the camera.
        metadata: Texts to store.
        tile: T.
    """
    graph = Graph("physrestore-darktable")
    packed = graph.input("input", (1, 4, tile, tile))
    space = (law.a, law.b, law.balance)
    offset = ANSCOMBE_OFFSET * law.a + law.b / law.a
    black, noise = working_black(space), working_noise(law.a, law.balance)
    # To the working space, plane by plane; then to sites: R, G1, G2, B are the sites of an RGGB quad, row by row.
    shifted = graph.node("Max", graph.node("Add", packed, _planes(graph, offset)), graph.number(0.0))
    root = graph.node("Sqrt", graph.node("Mul", shifted, _planes(graph, law.balance)))
    above = graph.node("Sub", root, _planes(graph, black))
    mosaic = graph.node("DepthToSpace", above, blocksize=2, mode="CRD")
    repeats = graph.integers(1, 1, tile, tile)
    quad = one_hot(Cfa.parse("RGGB"), 2, 2)
    colours = graph.node("Tile", graph.constant(quad.numpy()), repeats)
    levels = graph.node("Tile", graph.constant((noise * quad).sum(1, keepdim=True).numpy()), repeats)
    clean = graph.node("Add", emit_mosaic_net(graph, network, mosaic, levels, colours), _colour(graph, black))
    # And back to light: v |v| / g - offset.
    squared = graph.node("Mul", clean, graph.node("Abs", clean))
    light = graph.node("Sub", graph.node("Div", squared, _colour(graph, law.balance)), _colour(graph, offset))
    graph.output("output", light, (1, 3, 2 * tile, 2 * tile))
    return graph.model({**metadata, "camera": law.name}, producer="physrestore", version=physrestore.__version__)


def _colours(planes: Tensor) -> Tensor:
    """(1, 4) of R, G1, G2, B to (1, 3) float32 of R, G, B."""
    return torch.stack([planes[:, 0], planes[:, 1:3].mean(1), planes[:, 3]], dim=1).float()


def _planes(graph: Graph, values: Tensor) -> str:
    """A number a colour, as a constant for packed planes."""
    return graph.constant(values.reshape(3)[_COLOUR_OF_PLANE].reshape(1, 4, 1, 1).numpy().astype(np.float32))


def _colour(graph: Graph, values: Tensor) -> str:
    """A number a colour, as a constant for colour pictures."""
    return graph.constant(values.reshape(1, 3, 1, 1).numpy().astype(np.float32))
