"""Whose noise a comparison is measured in: that of the frame as recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from noise_models.errors import NoiseModelError
from noise_models.profile import CameraProfile
from physrestore.compare.picture import Picture
from physrestore.noise_choice import ChosenNoise, choose_noise

# Ways of knowing a noise that do not look at the pixels, which a restoration has changed.
_NOT_FROM_PIXELS = ("calibrated", "published")


def known_noise(
    pictures: Sequence[Picture], *, given: CameraProfile | None = None, folder: Path | None = None
) -> tuple[ChosenNoise | None, tuple[str, ...]]:
    """The noise of the scene as it was recorded, as `noise_choice.choose_noise` knows it.

    It is asked of mosaics without a record, which were not restored here. Of a restored mosaic only the camera counts:
    its pixels, and the NoiseProfile in its file, tell what noise is left.

    Args:
        pictures: Of one scene.
        given: A profile that the user named; it must fit.
        folder: The user's profile folder.

    Returns:
        The noise, or None with the reasons.

    Raises:
        NoiseModelError: ``given`` does not fit.
    """
    reasons: list[str] = []
    for picture in sorted(pictures, key=lambda one: one.record is not None):
        if picture.frame is None:
            continue
        recorded = picture.record is None
        frame = picture.frame if recorded else replace(picture.frame, noise_profile=None)
        try:
            chosen = choose_noise(frame, given=given, folder=folder)
        except NoiseModelError as error:
            if given is not None:
                raise
            reasons.append(f"{picture.name}: {error}")
            continue
        if recorded or chosen.trust in _NOT_FROM_PIXELS:
            return chosen, ()
        reasons.append(f"{picture.name} was restored, and no profile of its camera is known.")
    return None, tuple(reasons) or ("No file is a mosaic as a camera records it.",)
