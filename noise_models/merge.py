"""Several profiles of one camera become one."""

from __future__ import annotations

import math
from collections.abc import Sequence

from noise_models.errors import ProfileError
from noise_models.profile import CameraProfile, Provenance
from noise_models.sensor import Estimate, PlaneNoise, SensorNoise

# Two measurements of one quantity that differ by more than this many combined standard errors are reported: with five
# quantities on four planes over ten ISOs, chance alone exceeds four sigma once in eighty merges.
DISAGREEMENT_SIGMA = 4.0

_OF_PLANE = (
    "gain",
    "read_noise_dn",
    "black_level_dn",
    "saturation_dn",
    "prnu",
    "dsnu_dn",
    "dark_current",
    "linearity_error",
)
_OF_SENSOR = ("row_noise_dn", "column_noise_dn", "black_jitter_dn", "dark_shading_dn")


def merge_profiles(profiles: Sequence[CameraProfile]) -> CameraProfile:
    """The union of the ISOs of several profiles of one camera.

    An ISO measured twice gets the inverse-variance mean of each quantity. Where two measurements differ by more than
    their errors explain, the merged error is enlarged by sqrt(chi^2/dof) (Birge ratio) and a note says so.

    Args:
        profiles: Of the same make, model and CFA planes; at least one.

    Raises:
        ProfileError: different cameras, or a quantity without standard error is known twice with different values.
    """
    first = profiles[0]
    for other in profiles[1:]:
        same_planes = set(other.entries[0].planes) == set(first.entries[0].planes)
        if (other.make, other.model) != (first.make, first.model) or not same_planes:
            raise ProfileError(
                f"Cannot merge {other.make} {other.model} ({other.cfa}) into {first.make} {first.model} ({first.cfa}): "
                "noise is a property of one camera. Merge profiles of the same camera only."
            )
    by_iso: dict[float, list[SensorNoise]] = {}
    for profile in profiles:
        for entry in profile.entries:
            by_iso.setdefault(entry.setting, []).append(entry)
    entries = tuple(_merge_entries(by_iso[iso]) for iso in sorted(by_iso))
    return first.model_copy(
        update={
            "entries": entries,
            "provenance": _merge_provenance([profile.provenance for profile in profiles]),
            "notes": tuple(dict.fromkeys(note for profile in profiles for note in profile.notes)),
        }
    )


def _merge_entries(entries: Sequence[SensorNoise]) -> SensorNoise:
    if len(entries) == 1:
        return entries[0]
    first, notes = entries[0], [note for entry in entries for note in entry.notes]
    planes = {}
    for name in first.planes:
        values = {field: [getattr(entry.planes[name], field) for entry in entries] for field in _OF_PLANE}
        merged = {field: _mean(found, f"{name} {field}", notes) for field, found in values.items()}
        # What belongs to one fit (its chi^2, range, covariance) does not survive a mean of several.
        planes[name] = PlaneNoise.model_validate(merged)
    of_sensor = {field: _mean([getattr(entry, field) for entry in entries], field, notes) for field in _OF_SENSOR}
    exposures = [entry.exposure_s for entry in entries if entry.exposure_s is not None]
    return first.model_copy(
        update={
            **of_sensor,
            "planes": planes,
            "exposure_s": (min(e[0] for e in exposures), max(e[1] for e in exposures)) if exposures else None,
            "notes": tuple(dict.fromkeys(notes)),
        }
    )


def _mean(found: Sequence[Estimate | None], name: str, notes: list[str]) -> Estimate | None:
    known = [estimate for estimate in found if estimate is not None]
    if len(known) <= 1:
        return known[0] if known else None
    errors = [estimate.standard_error for estimate in known]
    if any(not error for error in errors):
        if len({estimate.value for estimate in known}) == 1:
            return known[0]
        raise ProfileError(
            f"{name} is given as {' and '.join(f'{e.value:g}' for e in known)} without standard errors: "
            "which is right cannot be told. Remove one of the profiles."
        )
    weights = [1.0 / error**2 for error in errors if error]
    value = sum(w * estimate.value for w, estimate in zip(weights, known, strict=True)) / sum(weights)
    chi2 = sum(w * (estimate.value - value) ** 2 for w, estimate in zip(weights, known, strict=True))
    birge = math.sqrt(max(chi2 / (len(known) - 1), 1.0))
    if birge > DISAGREEMENT_SIGMA:
        notes.append(f"{name}: the merged measurements differ by {birge:.1f} times what their errors explain.")
    error = birge / math.sqrt(sum(weights))
    return Estimate(value=value, standard_error=error, method=f"mean of {len(known)} calibrations")


def _merge_provenance(parts: Sequence[Provenance]) -> Provenance:
    licences = {part.licence for part in parts}
    return Provenance(
        tool=parts[0].tool,
        created=max(part.created for part in parts),
        frames=tuple(dict.fromkeys(frame for part in parts for frame in part.frames)),
        source="; ".join(dict.fromkeys(part.source for part in parts if part.source)),
        licence=licences.pop() if len(licences) == 1 else " and ".join(sorted(licences)),
    )
