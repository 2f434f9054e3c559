"""Durations as people write them."""

from __future__ import annotations

import re

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)([hms])")


def seconds_of(text: str) -> float:
    """Seconds of ``2h``, ``90m``, ``45s``, ``1h30m`` or a plain number of seconds.

    Raises:
        ValueError: anything else, or nothing at all.

    >>> seconds_of("1h30m"), seconds_of("45")
    (5400.0, 45.0)
    """
    parts = _PART.findall(text)
    if "".join(number + unit for number, unit in parts) == text and parts:
        return sum(float(number) * _UNITS[unit] for number, unit in parts)
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    raise ValueError(f"{text!r} is no duration. Write e.g. 2h, 90m, 45s or 1h30m.")
