"""Which noise a frame is restored with, and where that knowledge comes from.

The order (docs/decisions/0005): a profile given by the user; the file's own DNG NoiseProfile; a profile of this camera
in the user's folder; a published profile of this camera; an estimate from the file itself. Another camera's profile is
never borrowed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from noise_models.errors import ProfileError
from noise_models.frame import RawFrame
from noise_models.interchange.dng import noise_from_tag
from noise_models.profile import CameraProfile
from noise_models.published import published_profiles
from noise_models.sensor import SensorNoise
from noise_models.store import read_profile

PROFILE_ENDING = ".pnoise.json"


@dataclass(frozen=True)
class ChosenNoise:
    """The noise that a frame is restored with.

    Attributes:
        noise: At the frame's ISO.
        origin: One sentence for the user: where it comes from and how sure it is.
        trust: "calibrated", "stated" (by the file), "published", or "good", "fair", "poor" for an estimate.
        notes: Reasons and remarks, one sentence each.
    """

    noise: SensorNoise
    origin: str
    trust: str
    notes: tuple[str, ...] = ()


def choose_noise(frame: RawFrame, *, given: CameraProfile | None = None, folder: Path | None = None) -> ChosenNoise:
    """The best knowledge of a frame's noise that is honestly its own.

    Args:
        frame: The frame.
        given: A profile that the user named; it must fit, nothing else is tried.
        folder: The user's profile folder; None or a missing one: none. A malformed profile in it is an error.

    Raises:
        ProfileError: ``given`` is of another camera or array, or the file does not state its ISO.
        NoProfileForIso: ``given`` does not reach the frame's ISO.
        NotIdentifiable: nothing is known of this camera and the photo itself does not tell.
    """
    if given is not None:
        return _from_profile(frame, given, "the given profile")
    if frame.noise_profile is not None:
        return _from_tag(frame, frame.noise_profile)
    missed: list[str] = []
    for name, profile in _known_profiles(folder):
        if _same_camera(frame, profile):
            try:
                return _from_profile(frame, profile, name)
            except ProfileError as miss:
                missed.append(f"{name} was not used: {miss}")
    return _estimated(frame, tuple(missed))


def _from_profile(frame: RawFrame, profile: CameraProfile, name: str) -> ChosenNoise:
    if not _same_camera(frame, profile):
        raise ProfileError(
            f"{name} is of {profile.make} {profile.model}; this file is from {frame.shot.make} {frame.shot.model}. "
            "Noise is never borrowed from another camera: calibrate this one, or leave --profile at auto."
        )
    if frame.shot.iso is None:
        raise ProfileError(
            "The file does not state its ISO, so no entry of the profile can be chosen. "
            "Leave --profile at auto to estimate the noise from the file itself."
        )
    noise = profile.at(frame.shot.iso)
    if any(plane.gain is None for plane in noise.planes.values()):
        raise ProfileError(f"{name} has no gain at ISO {noise.setting:g}: made from darks only. Calibrate with flats.")
    how = "measured" if noise.origin == "measured" else noise.origin
    published = bool(profile.provenance.source)
    return ChosenNoise(
        noise=noise,
        origin=f"{name} ({how} at ISO {noise.setting:g})",
        trust="published" if published else "calibrated",
        notes=(*profile.notes, *noise.notes),
    )


def _from_tag(frame: RawFrame, pairs: Sequence[tuple[float, float]]) -> ChosenNoise:
    noise = noise_from_tag(pairs, cfa=frame.cfa, black=frame.black_level, white=frame.white_level, iso=frame.shot.iso)
    return ChosenNoise(
        noise=noise, origin="the file's DNG NoiseProfile (no uncertainty stated)", trust="stated", notes=noise.notes
    )


def _estimated(frame: RawFrame, notes: tuple[str, ...]) -> ChosenNoise:
    # Scipy's statistics behind it take a third of a second to import, which frames with a profile do without.
    from noise_models.calibration.photo.single_photo import estimate_from_frame

    estimate = estimate_from_frame(frame)
    gain = next(iter(estimate.noise.planes.values())).gain
    assert gain is not None
    low, high = gain.interval()
    origin = f"estimated from the file itself: K = {gain.value:.3g} DN/e- (95 % interval {low:.3g} to {high:.3g})"
    return ChosenNoise(noise=estimate.noise, origin=origin, trust=estimate.trust, notes=notes + estimate.reasons)


def _known_profiles(folder: Path | None) -> Iterator[tuple[str, CameraProfile]]:
    """The user's own profiles, then the published ones, each with the name to tell the user."""
    if folder is not None and folder.is_dir():
        for path in sorted(folder.glob(f"*{PROFILE_ENDING}")):
            yield f"{path.name} in the profile folder", read_profile(path)
    for profile in published_profiles():
        yield f"the published profile of {profile.model}, {profile.provenance.source}", profile


def _same_camera(frame: RawFrame, profile: CameraProfile) -> bool:
    """Make and model agree, however the file spells make, case and spaces ("Canon EOS 30D" / "EOS 30D")."""

    def words(make: str, model: str) -> set[str]:
        return set(re.findall(r"[a-z0-9]+", f"{make} {model}".lower()))

    same = words(frame.shot.make, frame.shot.model) == words(profile.make, profile.model)
    return same and set(frame.cfa.plane_names) == set(profile.entries[0].planes)
