"""The rebuilt demosaicnet is the published one: with its weights it demosaics a real picture as well as they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from noise_models.cfa import Cfa
from noise_models.frame import tile_to
from physrestore.quality import psnr
from tests.benchmarks._demosaicnet import BAYER, XTRANS, DemosaicNet
from tests.shared_data import shared

SIDE = 96
LAYER = "fullres_processor.post_conv.weight"


@pytest.mark.parametrize("cfa", [BAYER, XTRANS], ids=["bayer", "xtrans"])
def test_published_weights_demosaic_a_picture(cfa: Cfa) -> None:
    folder, picture = shared("weights/demosaicnet"), shared("sets/kodak24/19.png")
    codes = np.asarray(Image.open(picture).convert("RGB"))[300 : 300 + SIDE, 200 : 200 + SIDE]
    truth = torch.from_numpy(codes.astype(np.float32) / 255).permute(2, 0, 1)
    index = torch.tensor([["RGB".index(letter) for letter in row] for row in cfa.rows])
    sparse = truth * (tile_to(index, SIDE, SIDE) == torch.arange(3)[:, None, None])
    network = DemosaicNet.load(folder, cfa)
    m = network.margin

    good = psnr(network(sparse[None])[0], truth[:, m:-m, m:-m])
    turned = DemosaicNet({**network.weights, LAYER: network.weights[LAYER].flip(-2)})
    wrong = psnr(turned(sparse[None])[0], truth[:, m:-m, m:-m])

    assert good > 38.0
    assert wrong < good - 3.0, "one layer mirrored must show"
