"""Maps of a sensor's sites: mean dark, defects, blinking sites, response. Kept beside a profile, in an npz file.

A profile holds populations, a map their places: it serves dark subtraction and the repair of pixels. Maps are large
(about 150 MB for 24 megapixels and one ISO), so they are made on request only.
"""

from __future__ import annotations

import hashlib
import io
import math
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from noise_models.calibration.pairs import all_sites, sublattice
from noise_models.calibration.shape.rts import FEWEST_FRAMES, TemporalMoments, find_defects
from noise_models.calibration.spatial import flattened
from noise_models.cfa import Cfa
from noise_models.errors import ProfileError
from noise_models.frame import RawFrame
from noise_models.profile import CameraProfile
from noise_models.sensor import Tail

if TYPE_CHECKING:
    from noise_models.calibration.calibrate import Calibration
    from noise_models.calibration.dark import DarkMeasurement
    from noise_models.calibration.stack import FrameStack

Bool = NDArray[np.bool_]
F16 = NDArray[np.float16]
F32 = NDArray[np.float32]
Site = tuple[int, int]

# All maps of one calibration together [bytes]; six ISOs of a 24-megapixel camera. Further ISOs go without, with a note.
BUDGET_BYTES = 1 << 30
BYTES_PER_SITE = 6  # two float16 and two bool maps
# A map file that unpacks to more is not read.
MOST_UNPACKED_BYTES = 4 * BUDGET_BYTES
# A response map is kept where the light's own noise in it is at most this share of the PRNU.
RESPONSE_NOISE_SHARE = 0.5

_MEMBER = re.compile(r"iso([0-9.]+(?:e[+-]?[0-9]+)?)_(mean_dark_dn|defects|blinking|response)\.npy")
_DTYPES = {"mean_dark_dn": np.float16, "defects": np.bool_, "blinking": np.bool_, "response": np.float16}


@dataclass(frozen=True)
class IsoMaps:
    """One ISO; every map is (H, W) of the visible area.

    Attributes:
        mean_dark_dn: Mean dark frame above the black level of its plane [DN].
        defects: Hot, dead and stuck sites.
        blinking: Sites of random telegraph noise; None below eight darks.
        response: Sensitivity over that of the neighbourhood, 1 on average; NaN where the frame ends in a part of a
            tile. None where the flats are too few to see it.
    """

    mean_dark_dn: F16
    defects: Bool
    blinking: Bool | None = None
    response: F16 | None = None


def have_room(isos: int, shape: tuple[int, int]) -> bool:
    """Whether the maps of so many ISOs stay within the budget."""
    return isos * math.prod(shape) * BYTES_PER_SITE <= BUDGET_BYTES


class MapBuilder:
    """Collects the maps of one ISO while its frames stream by.

    Args:
        cfa: Of the frames.
        shape: Height and width of the frames.
    """

    def __init__(self, cfa: Cfa, shape: tuple[int, int]) -> None:
        self._cfa, self._shape = cfa, shape
        self._moments: dict[Site, TemporalMoments] = {}
        self._dark: IsoMaps | None = None
        self._response: tuple[float, F16] | None = None

    def add_dark(self, raw: RawFrame) -> None:
        """Take one dark of the largest group."""
        for site in all_sites(self._cfa):
            part = sublattice(raw.mosaic, site, self._cfa.period)
            self._moments.setdefault(site, TemporalMoments(part.shape)).update(part)

    def finish_darks(self, stack: FrameStack, defects: Mapping[Site, Bool]) -> None:
        """Keep the mean dark and the defects of the largest group."""
        mean = np.empty(self._shape, dtype=np.float16)
        bad = np.zeros(self._shape, dtype=bool)
        ph, pw = self._cfa.period
        for plane in self._cfa.plane_names:
            level = stack.plane_mean(plane, self._cfa, defects)
            for site in self._cfa.sites(plane):
                at = slice(site[0], None, ph), slice(site[1], None, pw)
                mean[at] = stack.site(site, self._cfa.period) - np.float32(level)
                bad[at] = defects[site]
        self._dark = IsoMaps(mean, bad)

    def add_flats(self, stack: FrameStack, dark: DarkMeasurement, noise: Mapping[str, tuple[float, float]]) -> None:
        """Take the mean flat of one level, and keep the level whose response is seen best.

        Args:
            stack: All its frames.
            dark: Of the same ISO.
            noise: Plane -> mean above black [DN] and temporal variance of one pixel of one frame [DN^2].
        """
        if self._dark is None or set(noise) != set(self._cfa.plane_names):
            return
        relative = max(math.sqrt(variance / stack.frames) / mean for mean, variance in noise.values())
        if self._response is not None and self._response[0] <= relative:
            return
        response = np.full(self._shape, np.nan, dtype=np.float16)
        ph, pw = self._cfa.period
        for plane in self._cfa.plane_names:
            for site in self._cfa.sites(plane):
                at = slice(site[0], None, ph), slice(site[1], None, pw)
                above = stack.site(site, (ph, pw)) - dark.black(plane, None) - self._dark.mean_dark_dn[at]
                response[at] = flattened(above.astype(np.float32))
        self._response = relative, response

    def finish(self, *, tail: Tail, prnu: float | None) -> IsoMaps | None:
        """The maps; None where there was no pair of darks.

        Args:
            tail: Shape of the read noise: where pixels differ in noise, a larger variance is ordinary.
            prnu: Measured, as a ratio; a response map of mostly noise is not kept.
        """
        if self._dark is None:
            return None
        maps = self._dark
        if self._moments and next(iter(self._moments.values())).frames >= FEWEST_FRAMES:
            maps = replace(maps, blinking=self._blinking(tail))
        if self._response is not None and prnu is not None and self._response[0] <= RESPONSE_NOISE_SHARE * prnu:
            maps = replace(maps, response=self._response[1])
        return maps

    def _blinking(self, tail: Tail) -> Bool:
        width = tail.shape.value if tail.kind == "lognormal" and tail.shape is not None else 0.0
        result = np.zeros(self._shape, dtype=bool)
        ph, pw = self._cfa.period
        for site, moments in self._moments.items():
            result[site[0] :: ph, site[1] :: pw] = find_defects(moments, spread_width=width).blinking
        return result


def pack_maps(calibration: Calibration) -> tuple[bytes, CameraProfile]:
    """The content of an npz file with all maps of a calibration, and the profile that names it by its hash.

    Members are ``iso100.0_mean_dark_dn``, ``iso100.0_defects``, ``iso100.0_blinking`` and ``iso100.0_response``, as in
    `IsoMaps`; the last two are missing where they are None. The same maps give the same bytes.

    Raises:
        ProfileError: the calibration was made without maps.
    """
    if not calibration.maps:
        raise ProfileError("This calibration holds no maps. Calibrate with maps=True.")
    arrays = {
        f"iso{iso!r}_{name}": getattr(maps, name)
        for iso, maps in sorted(calibration.maps.items())
        for name in _DTYPES
        if getattr(maps, name) is not None
    }
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)
    content = out.getvalue()
    profile = calibration.profile
    provenance = profile.provenance.model_copy(update={"maps_sha256": hashlib.sha256(content).hexdigest()})
    return content, profile.model_copy(update={"provenance": provenance})


def read_maps(path: str | Path, *, profile: CameraProfile | None = None) -> dict[float, IsoMaps]:
    """The maps of a file that `pack_maps` made: ISO -> maps.

    Args:
        path: The npz file.
        profile: The profile beside it, whose hash the file must have; None: unchecked.

    Raises:
        ProfileError: not such a file, larger than any camera's, or not the one that the profile names.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ProfileError(f"The maps {path.name!r} cannot be read ({error.strerror}).") from error
    if profile is not None and hashlib.sha256(content).hexdigest() != profile.provenance.maps_sha256:
        raise ProfileError(
            f"{path.name!r} holds other maps than this profile names. Keep both files of one calibration."
        )
    parts: dict[float, dict[str, NDArray[np.generic]]] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(member.file_size for member in archive.infolist()) > MOST_UNPACKED_BYTES:
                raise ProfileError(f"{path.name!r} unpacks to more than {MOST_UNPACKED_BYTES >> 30} GiB: no maps.")
            names = [member.filename for member in archive.infolist()]
        with np.load(io.BytesIO(content), allow_pickle=False) as data:
            for name in names:
                iso, kind = _member(name, path)
                parts.setdefault(iso, {})[kind] = data[name.removesuffix(".npy")]
    except (zipfile.BadZipFile, ValueError, EOFError, OSError) as error:
        raise ProfileError(f"{path.name!r} is not a file of maps ({error}).") from error
    return {iso: _checked(arrays, path) for iso, arrays in parts.items()}


def _member(name: str, path: Path) -> tuple[float, str]:
    match = _MEMBER.fullmatch(name)
    if match is None:
        raise ProfileError(f"{path.name!r} has a member {name[:40]!r}, which is no map.")
    return float(match[1]), match[2]


def _checked(arrays: Mapping[str, NDArray[np.generic]], path: Path) -> IsoMaps:
    shapes = {array.shape for array in arrays.values()}
    kinds = all(array.dtype == _DTYPES[name] for name, array in arrays.items())
    complete = {"mean_dark_dn", "defects"} <= set(arrays)
    if not (complete and kinds and len(shapes) == 1 and len(next(iter(shapes))) == 2):
        raise ProfileError(f"{path.name!r} is not a whole set of maps of one size. Calibrate again with maps.")
    return IsoMaps(**arrays)  # type: ignore[arg-type]  # dtypes were compared
