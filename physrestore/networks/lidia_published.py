"""The authors' LIDIA weights, under the names of this package."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

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
# A constant filter that the authors store with the weights.
_CONSTANT = "separable_fc_net.agg1.bilinear_conv.weight"


def published_lidia(state: Mapping[str, Tensor], *, level: float) -> LIDIA:
    """A network from the entry "state_dict" of one of the authors' files.

    Args:
        state: Weights by the authors' names. Load the file with ``torch.load(path, weights_only=True)``.
        level: Std of the noise that the file was trained for, pictures reaching from 0 to 1.

    Raises:
        RuntimeError: weights of another network (torch lists which are missing and which are unknown).
    """
    weights = {renamed(name): value for name, value in state.items() if name != _CONSTANT}
    d, small = weights["noise.bias"].shape[1], "fine.bypass" not in weights
    network = LIDIA(LIDIAConfig.published(channels=1 if d == 49 else 3, small=small, level=level))
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
