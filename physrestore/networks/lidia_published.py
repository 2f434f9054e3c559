"""The authors' LIDIA weights, under the names of this package."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from physrestore.errors import PriorError
from physrestore.networks.lidia import LIDIA, LIDIAConfig

_RENAMED = (
    (r"^beta$", "flatness"),
    (r"^alpha0$", "fine_weights.rate"),
    (r"^alpha1$", "coarse_weights.rate"),
    (r"^weights_net0\.", "fine_weights."),
    (r"^weights_net1\.", "coarse_weights."),
    (r"\.fc(\d)\.", r".linear.\1."),
    (r"\.bn(\d)\.", r".norms.\1."),
    (r"\.fc_out\.", ".out."),
    (r"^separable_fc_net\.", ""),
    (r"^sep_part1_s0\.", "fine."),
    (r"^sep_part1_s1\.", "coarse."),
    (r"^sep_part2\.ver_hor_out\.", "noise."),
    (r"^sep_part2\.", "joint."),
    (r"^ver_hor_agg0_pre\.", "fine_estimate."),
    (r"^ver_hor_agg1_pre\.", "coarse_estimate."),
    (r"^ver_hor_bn_re_agg0_post\.", "fine_return."),
    (r"^ver_hor_bn_re_agg1_post\.", "coarse_return."),
    (r"\.ver_hor_bn_re[02]\.", ".first."),
    (r"\.ver_hor_bn_re[13]\.", ".second."),
    (r"\.ver_hor\.", "."),
    (r"\.ver\.weight$", ".column_weight"),
    (r"\.hor\.weight$", ".row_weight"),
    (r"\.bn\.", ".norm."),
    (r"\.b$", ".bias"),
    (r"\.a$", ".bypass"),
)
# The noise of one patch of 5 x 5 x 3.
_COLOUR_PATCH = (1, 75)
# A constant filter that the authors store with the weights.
_CONSTANT = "separable_fc_net.agg1.bilinear_conv.weight"


def published_lidia(state: Mapping[str, Tensor], *, level: float) -> LIDIA:
    """A network from the entry "state_dict" of one of the authors' files.

    Args:
        state: Weights by the authors' names. Load the file with ``torch.load(path, weights_only=True)``.
        level: Std of the noise that the file was trained for, pictures reaching from 0 to 1.

    Raises:
        PriorError: weights of another network.
    """
    weights = {renamed(name): value for name, value in state.items() if name != _CONSTANT}
    colour = "noise.bias" in weights and tuple(weights["noise.bias"].shape) == _COLOUR_PATCH
    network = LIDIA(LIDIAConfig.published(channels=3 if colour else 1, small="fine.bypass" not in weights, level=level))
    own = network.net.state_dict()
    wrong = sorted(own.keys() ^ weights.keys()) or [k for k, value in own.items() if value.shape != weights[k].shape]
    if wrong:
        raise PriorError(
            f"{len(wrong)} of these tensors are not those of the authors' LIDIA, or missing, or of another shape: "
            f"{', '.join(wrong[:4])}. Give the entry 'state_dict' of a published file as it is."
        )
    network.net.load_state_dict(weights)
    return network.eval()


def renamed(name: str) -> str:
    """Our name of one of the authors' weights.

    >>> renamed("separable_fc_net.sep_part1_s0.ver_hor_bn_re1.ver_hor.hor.weight")
    'fine.second.row_weight'
    """
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    return name
