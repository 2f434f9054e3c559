"""Two pictures of one scene side by side: what differs, whether it looks like noise, and where."""

from __future__ import annotations

from physrestore.compare.lattice import Pair, pair_up
from physrestore.compare.measure import Comparison, PlaneDifference, compare
from physrestore.compare.picture import Picture
from physrestore.compare.reading import read_picture
from physrestore.compare.sheet import contact_sheet
from physrestore.compare.yardstick import known_noise

__all__ = [
    "Comparison",
    "Pair",
    "Picture",
    "PlaneDifference",
    "compare",
    "contact_sheet",
    "known_noise",
    "pair_up",
    "read_picture",
]
