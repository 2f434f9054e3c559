"""Networks whose output at a pixel does not depend on that pixel: shifted, dilated, masked.

All share one contract: a frozen configuration, and ``network(values, context, hole=None)`` with

- ``values`` (B, C, H, W): what may be seen everywhere but in the hole,
- ``context`` (B, K, H, W): what is known of a pixel without looking at its value (its colour, its noise), given
  un-blinded to the last 1x1 layers,
- ``hole``: side of the square around a pixel that its output does not see, odd; None takes the configuration's.

With ``own_row`` excluded the hole is a band of whole rows instead, for noise that a row shares.
"""

from physrestore.networks.blind_spot.dilated import DilatedBlindSpot as DilatedBlindSpot
from physrestore.networks.blind_spot.dilated import DilatedConfig as DilatedConfig
from physrestore.networks.blind_spot.masked import MaskedBlindSpot as MaskedBlindSpot
from physrestore.networks.blind_spot.masked import MaskedConfig as MaskedConfig
from physrestore.networks.blind_spot.shifted import ShiftedBlindSpot as ShiftedBlindSpot
from physrestore.networks.blind_spot.shifted import ShiftedConfig as ShiftedConfig
