"""The numbers of a profile as rows: for the page and for CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass

from noise_models.profile import CameraProfile
from noise_models.sensor import Estimate, PlaneNoise, SensorNoise


@dataclass(frozen=True)
class Row:
    """One quantity of one plane (or of the whole sensor: plane "") at one ISO.

    Attributes:
        iso: ISO setting.
        plane: R, G1, G2, B, ..., or "".
        quantity: Name, as in the JSON file.
        symbol: As in EMVA Standard 1288 Release 4.0 where it has one.
        unit: Of the value.
        estimate: Value, error, method.
    """

    iso: float
    plane: str
    quantity: str
    symbol: str
    unit: str
    estimate: Estimate

    @property
    def text(self) -> str:
        """Value and standard error with matching digits: ``0.4987 ± 0.0012``."""
        return with_error(self.estimate)


def rows(profile: CameraProfile) -> list[Row]:
    """Everything a profile knows, ISO by ISO and plane by plane."""
    return [
        Row(entry.setting, plane, name, symbol, unit, estimate)
        for entry in profile.entries
        for plane, name, symbol, unit, estimate in _quantities(entry)
        if estimate is not None
    ]


def profile_csv(profile: CameraProfile) -> str:
    """The same as CSV: iso, plane, quantity, symbol, unit, value, standard_error, method."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["iso", "plane", "quantity", "symbol", "unit", "value", "standard_error", "method"])
    for row in rows(profile):
        one = row.estimate
        error = "" if one.standard_error is None else one.standard_error
        writer.writerow([row.iso, row.plane, row.quantity, row.symbol, row.unit, one.value, error, one.method])
    return out.getvalue()


def with_error(estimate: Estimate) -> str:
    """Value and one standard error, the value cut to two digits of the error.

    >>> with_error(Estimate(value=0.49871, standard_error=0.00123))
    '0.4987 ± 0.0012'
    >>> with_error(Estimate(value=512.0))
    '512'
    """
    error = estimate.standard_error
    if error is None or error == 0:
        return f"{estimate.value:.5g}"
    digits = max(0, 1 - int(f"{error:e}".split("e")[1]))
    return f"{estimate.value:.{digits}f} ± {error:.{digits}f}"


Quantity = tuple[str, str, str, str, Estimate | None]


def _quantities(entry: SensorNoise) -> Iterator[Quantity]:
    for name, plane in entry.planes.items():
        yield from _of_plane(name, plane)
    yield "", "row_noise_dn", "σ_row", "DN", entry.row_noise_dn
    yield "", "column_noise_dn", "σ_col", "DN", entry.column_noise_dn
    yield "", "black_jitter_dn", "σ_frame", "DN", entry.black_jitter_dn
    yield "", "dark_shading_dn", "", "DN", entry.dark_shading_dn
    yield "", f"tail ({entry.tail.kind})", "", "1", entry.tail.shape
    if entry.hot_pixels is not None:
        yield "", "hot_pixels.fraction", "", "1", entry.hot_pixels.fraction
        yield "", "hot_pixels.excess_dn", "", "DN", entry.hot_pixels.excess_dn


def _of_plane(name: str, plane: PlaneNoise) -> Iterator[Quantity]:
    yield name, "gain", "K", "DN/e-", plane.gain
    yield name, "read_noise_dn", "σ_d K", "DN", plane.read_noise_dn
    yield name, "read_noise", "σ_d", "e-", plane.read_noise
    yield name, "black_level_dn", "μ_y.dark", "DN", plane.black_level_dn
    yield name, "saturation_dn", "μ_y.sat", "DN", plane.saturation_dn
    yield name, "prnu", "PRNU1288", "1", plane.prnu
    yield name, "dsnu_dn", "s_y.dark", "DN", plane.dsnu_dn
    yield name, "dsnu", "DSNU1288", "e-", plane.dsnu
    yield name, "dark_current", "μ_I", "e-/s", plane.dark_current
    yield name, "linearity_error", "LE", "1", plane.linearity_error
    yield name, "absolute_sensitivity", "μ_e.min", "e-", _threshold(plane)
    yield name, "full_well", "μ_e.sat", "e-", _full_well(plane)
    yield name, "dynamic_range", "DR", "1", _dynamic_range(plane)


def _threshold(plane: PlaneNoise) -> Estimate | None:
    """Signal at which SNR is one: sigma_y.dark / K + 1/2 (EMVA 1288 Release 4.0 Linear, absolute sensitivity)."""
    if plane.gain is None or plane.read_noise is None:
        return None
    total = float(plane.variance(0.0)) ** 0.5 / plane.gain.value
    return Estimate(value=total + 0.5, standard_error=plane.read_noise.standard_error, method="σ_y.dark / K + 1/2")


def _full_well(plane: PlaneNoise) -> Estimate | None:
    """Saturation capacity: (mu_y.sat - mu_y.dark) / K."""
    if plane.gain is None or plane.saturation_dn is None:
        return None
    value = (plane.saturation_dn.value - plane.black_level_dn.value) / plane.gain.value
    relative = (plane.gain.standard_error or 0.0) / plane.gain.value
    return Estimate(value=value, standard_error=value * relative, method="(μ_y.sat - μ_y.dark) / K")


def _dynamic_range(plane: PlaneNoise) -> Estimate | None:
    """Full well over absolute sensitivity."""
    well, least = _full_well(plane), _threshold(plane)
    if well is None or least is None:
        return None
    return Estimate(value=well.value / least.value, method="μ_e.sat / μ_e.min")
