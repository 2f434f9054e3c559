"""Local means of the colours, which the trunks of our own networks see apart from the contrast around them.

Half precision, in which trunks compute, keeps three digits. Of whole values these are too few: noise below a per cent
of white is then as small as their rounding, and a network can only leave it. Differences from a local mean keep three
digits of their own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Std and reach of the window, pixels: wide enough that the means of sparse colours (X-Trans has two reds in nine sites)
# do not depend on the site's place in the array, narrow enough that a strong edge is soon out of it.
MEAN_STD, MEAN_REACH = 3.0, 8
# Weight within the window below which a colour has no mean; the window's corner beyond a frame's corner.
LEAST_WEIGHT = 1e-6


class LocalMean(nn.Module):
    """Means of three colours around every site, by normalised convolution with a Gaussian window.

    Source:
        Knutsson and Westin, CVPR 1993.
    """

    window: Tensor

    def __init__(self) -> None:
        super().__init__()
        offsets = torch.arange(-MEAN_REACH, MEAN_REACH + 1, dtype=torch.float32)
        weights = torch.exp(-0.5 * (offsets / MEAN_STD).square())
        self.register_buffer("window", (weights / weights.sum()).expand(3, 1, -1).contiguous(), persistent=False)

    def forward(self, values: Tensor, known: Tensor) -> Tensor:
        """Means.

        Args:
            values: (B, 3, H, W), zero where a colour is not known.
            known: 1 where it is, 0 elsewhere, (1 or B, 3, H, W), dtype of ``values``.

        Returns:
            (B, 3, H, W), dtype of ``values`` whatever the autocast; 0 where a colour is nowhere within the window.
        """
        with torch.autocast(values.device.type, enabled=False):
            return self._gathered(values) / self._gathered(known).clamp(min=LEAST_WEIGHT)

    def _gathered(self, x: Tensor) -> Tensor:
        window = self.window.to(x)
        if x.device.type == "cpu":
            x = x.contiguous(memory_format=torch.channels_last)  # twenty times faster than planes one by one
        across = F.conv2d(x, window[:, :, None, :], padding=(0, MEAN_REACH), groups=3)
        return F.conv2d(across, window[:, :, :, None], padding=(MEAN_REACH, 0), groups=3)
