"""Entries of darktable's noiseprofiles.json: variance = a x + b per channel, x normalised by darktable's pipeline.

They are **not** raw-domain parameters: darktable fits them through its own demosaicked pipeline, and its `a` is 2 to
13 times smaller than K / (white - black) of the same camera, by a factor that differs per channel and ISO. An imported
entry is therefore marked "nominal" and says so. The file itself is GPL-3: it is read from the user's installation,
never shipped.

Layout: {"version": 0, "noiseprofiles": [{"maker", "models": [{"model", "profiles": [{"name", "iso", "a", "b"}]}]}]}.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from noise_models.errors import ProfileError
from noise_models.profile import CameraProfile, Provenance
from noise_models.sensor import Estimate, PlaneNoise, SensorNoise

VERSION = 0
MAX_BYTES = 16 * 2**20  # darktable 4.2 ships 1.5 MB; ten times that is not a list of cameras
NOTE = (
    "Imported from darktable: fitted after demosaicking, not a raw-domain K (2 to 13 times too small); "
    "use it for shape only, and calibrate."
)


def import_darktable(path: Path, *, model: str, black: float, white: float) -> CameraProfile:
    """One camera of a noiseprofiles.json, in DN.

    Args:
        path: The user's own file.
        model: As the file spells it; case does not matter.
        black: Black level of the camera [DN]; the file does not state it.
        white: White level [DN].

    Raises:
        ProfileError: not such a file, or no such model (near ones are named).
    """
    found = {
        str(entry["model"]).lower(): (str(maker["maker"]), entry)
        for maker in _makers(path)
        for entry in maker.get("models", [])
    }
    if model.lower() not in found:
        near = sorted(name for name in found if model.lower() in name or name in model.lower())
        raise ProfileError(
            f"{path.name!r} has no camera {model!r} (similar: {', '.join(near[:5]) or 'none'}). Name one of its models."
        )
    make, entry = found[model.lower()]
    by_iso = {float(p["iso"]): p for p in entry["profiles"] if not p.get("skip")}
    return CameraProfile(
        make=make,
        model=str(entry["model"]),
        cfa="RGGB",
        entries=tuple(_entry(iso, by_iso[iso], black, white) for iso in sorted(by_iso)),
        provenance=Provenance(source=f"darktable {path.name}", licence="GPL-3.0-or-later"),
        notes=(NOTE,),
    )


def export_darktable(profile: CameraProfile, *, white: float) -> str:
    """A noiseprofiles.json with this one camera, for darktable's ``--noiseprofiles``.

    The values are raw-domain (a = K / (white - black)), which darktable's own are not: its denoiser will act stronger
    than with a profile made by its own tool.

    Args:
        profile: To export.
        white: White level of the camera [DN].

    Raises:
        ProfileError: an entry has no gain (made from darks only) or no colours (monochrome).
    """
    rows = []
    for entry in profile.entries:
        a, b = [], []
        for colour in ("R", "G1" if "G1" in entry.planes else "G", "B"):
            if colour not in entry.planes:
                raise ProfileError("darktable describes colour sensors only; this profile is monochrome.")
            plane = entry.planes[colour]
            scale = white - plane.black_level_dn.value
            dark, one = float(plane.variance(0.0)), float(plane.variance(1.0))
            a.append((one - dark) / scale)
            b.append(dark / scale**2)
        rows.append({"name": f"{profile.model} iso {entry.setting:g}", "iso": round(entry.setting), "a": a, "b": b})
    models = [{"model": profile.model, "comment": "physrestore, raw domain", "profiles": rows}]
    document = {"version": VERSION, "noiseprofiles": [{"maker": profile.make, "models": models}]}
    return json.dumps(document, indent=1)


def _makers(path: Path) -> list[dict[str, Any]]:
    if path.stat().st_size > MAX_BYTES:
        raise ProfileError(f"{path.name!r} is larger than {MAX_BYTES >> 20} MB: not a noiseprofiles.json.")
    try:
        document = json.loads(path.read_text())
        version, makers = document["version"], document["noiseprofiles"]
    except (ValueError, KeyError, TypeError) as error:
        raise ProfileError(f"{path.name!r} is not a darktable noiseprofiles.json: {error!r}.") from error
    if version != VERSION:
        raise ProfileError(f"{path.name!r} has version {version}; known: {VERSION}.")
    assert isinstance(makers, list)
    return makers


def _entry(iso: float, profile: dict[str, Any], black: float, white: float) -> SensorNoise:
    scale, planes = white - black, {}
    try:
        slopes = [float(value) for value in profile["a"]]
        offsets = [float(value) for value in profile["b"]]
        for name, channel in (("R", 0), ("G1", 1), ("G2", 1), ("B", 2)):
            read = math.sqrt(max(offsets[channel], 0.0)) * scale  # a tenth of the values in the field are negative
            planes[name] = PlaneNoise(
                gain=Estimate(value=slopes[channel] * scale, method="darktable a"),
                read_noise_dn=Estimate(value=read, method="darktable b"),
                black_level_dn=Estimate(value=black, method="given"),
            )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ProfileError(f"The entry of ISO {iso:g} is not three a and three b: {error!r}.") from error
    return SensorNoise(
        iso=iso,
        planes=planes,
        row_noise_dn=Estimate(value=0.0, method="not described by darktable"),
        origin="nominal",
        notes=(NOTE,),
    )
