"""The published numbers as profiles."""

from __future__ import annotations

import math
from functools import cache

from noise_models.cfa import BAYER_PLANES
from noise_models.profile import CameraProfile, Provenance
from noise_models.published import eld, sony_a7s2
from noise_models.sensor import Estimate, PlaneNoise, SensorNoise, Tail

# Laboratories differ by up to this on the K of one camera (ELD, PMN and SFRN on the A7S II: 0.75, 0.77 and 1.00 DN/e-
# at ISO 800; a spread of 33 % end to end is about one sigma of 15 %).
GAIN_DISAGREEMENT = 0.15


@cache
def published_profiles() -> tuple[CameraProfile, ...]:
    """All published profiles, origin "published"; `CameraProfile.provenance.source` cites each.

    >>> sorted(profile.model for profile in published_profiles())[-1]
    'NIKON D850'
    """
    return (_sony(), *map(_eld, eld.CAMERAS))


def _sony() -> CameraProfile:
    entries = tuple(
        _entry(
            iso=float(iso),
            gain=gain,
            black=sony_a7s2.BLACK_DN,
            white=sony_a7s2.WHITE_DN,
            read=Estimate(value=read, standard_error=read_scatter, method="darks; scatter between frames"),
            row=Estimate(value=row, standard_error=row_scatter, method="darks; scatter between frames"),
            tail=Tail(kind="tukey", shape=Estimate(value=shape, method="PPCC on darks")),
            segment=int(iso >= sony_a7s2.FIRST_HIGH_GAIN_ISO),
        )
        for iso, gain, read, read_scatter, row, row_scatter, shape in sony_a7s2.TABLE
    )
    return CameraProfile(
        make=sony_a7s2.MAKE,
        model=sony_a7s2.MODEL,
        cfa=sony_a7s2.CFA,
        entries=entries,
        provenance=Provenance(source=sony_a7s2.SOURCE, licence="Apache-2.0"),
        notes=sony_a7s2.NOTES,
    )


def _eld(camera: eld.EldCamera) -> CameraProfile:
    entries = []
    for iso in eld.ISOS:
        gain = camera.gain_at_iso_100 * iso / 100.0
        entries.append(
            _entry(
                iso=iso,
                gain=gain,
                black=camera.black_dn,
                white=camera.white_dn,
                read=_on_line(camera.read, gain),
                row=_on_line(camera.row, gain),
                tail=Tail(),
                segment=0,
            )
        )
    return CameraProfile(
        make=camera.make,
        model=camera.model,
        cfa="RGGB",
        entries=tuple(entries),
        provenance=Provenance(source=eld.SOURCE, licence="MIT"),
        notes=eld.NOTES,
    )


def _on_line(line: eld.Line, gain: float) -> Estimate:
    value = math.exp(line.slope * math.log(gain) + line.bias)
    return Estimate(value=value, standard_error=value * line.spread, method="log-line over gain")


def _entry(
    *,
    iso: float,
    gain: float,
    black: float,
    white: float,
    read: Estimate,
    row: Estimate,
    tail: Tail,
    segment: int,
) -> SensorNoise:
    plane = PlaneNoise(
        gain=Estimate(
            value=gain, standard_error=GAIN_DISAGREEMENT * gain, method="published; error: between laboratories"
        ),
        read_noise_dn=read,
        black_level_dn=Estimate(value=black, method="nominal"),
        saturation_dn=Estimate(value=white, method="nominal"),
    )
    return SensorNoise(
        iso=iso,
        planes=dict.fromkeys(BAYER_PLANES, plane),
        row_noise_dn=row,
        tail=tail,
        segment=segment,
        origin="published",
    )
