"""A camera's noise over its ISO settings, and the law that carries it between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, model_validator

from noise_models.cfa import Cfa
from noise_models.errors import NoProfileForIso
from noise_models.iso_law import interpolate
from noise_models.sensor import Model, SensorNoise

if TYPE_CHECKING:
    from noise_models.sampling.dark_library import DarkLibrary
    from noise_models.sampling.sampler import NoiseSampler


class FrameRecord(Model):
    """One frame that went into a profile."""

    name: str
    sha256: str
    role: str


class Provenance(Model):
    """Who measured what with which tool.

    Attributes:
        tool: Name and version.
        created: ISO 8601.
        frames: What was measured.
        source: Of values that were not measured here.
        licence: Of the profile.
        maps_sha256: Of the npz file with the maps that belong to the profile, hex; "" where there is none.
    """

    tool: str = ""
    created: str = ""
    frames: tuple[FrameRecord, ...] = ()
    source: str = ""
    licence: str = "CC0-1.0"
    maps_sha256: Annotated[str, Field(pattern="^([0-9a-f]{64})?$")] = ""


class CameraProfile(Model):
    """The noise of one camera.

    Attributes:
        make: As in the files.
        model: As in the files.
        cfa: Letters of the CFA (`Cfa.name`), of any phase.
        entries: One `SensorNoise` per ISO, sorted by ISO, none twice.
        provenance: Frames, tool, licence.
        notes: What a user should know, one sentence each.
    """

    make: str
    model: str
    cfa: str
    entries: Annotated[tuple[SensorNoise, ...], Field(min_length=1)]
    provenance: Provenance = Provenance()
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _sorted_and_alike(self) -> Self:
        isos = [entry.setting for entry in self.entries]
        if isos != sorted(set(isos)):
            raise ValueError(f"entries must be sorted by ISO, none twice; they are {isos}.")
        planes = set(Cfa.parse(self.cfa).plane_names)
        for entry in self.entries:
            if set(entry.planes) != planes:
                raise ValueError(
                    f"The entry of ISO {entry.setting:g} has planes {sorted(entry.planes)}, not {sorted(planes)}."
                )
        return self

    @property
    def isos(self) -> tuple[float, ...]:
        """The ISO settings that were measured."""
        return tuple(entry.setting for entry in self.entries)

    def at(self, iso: float) -> SensorNoise:
        """The noise at one ISO: the measured entry, or the law between two ISOs of one conversion-gain segment.

        Args:
            iso: As a file states it.

        Raises:
            NoProfileForIso: outside the measured range, or across a step of the conversion gain.
        """
        for entry in self.entries:
            if entry.setting == iso:
                return entry
        if not self.isos[0] < iso < self.isos[-1]:
            raise NoProfileForIso(self._refusal(iso, "it lies outside the measured range"))
        lower = max((entry for entry in self.entries if entry.setting < iso), key=lambda entry: entry.setting)
        upper = min((entry for entry in self.entries if entry.setting > iso), key=lambda entry: entry.setting)
        if lower.segment != upper.segment:
            step = f"the conversion gain changes between ISO {lower.setting:g} and ISO {upper.setting:g}"
            raise NoProfileForIso(self._refusal(iso, step))
        return interpolate([entry for entry in self.entries if entry.segment == lower.segment], iso)

    def sampler(
        self,
        *,
        isos: Sequence[float] | None = None,
        iso_range: tuple[float, float] | None = None,
        white_level: float | None = None,
        black_clamp: float = 0.0,
        draw_uncertainty: bool = False,
        darks: DarkLibrary | None = None,
        reparametrised: bool = False,
    ) -> NoiseSampler:
        """This camera's noise for batches of clean images; see `ProfileLaw` and `NoiseSampler` for the arguments.

        Raises:
            NoProfileForIso: an ISO that the profile says nothing about.
            ProfileError: an unknown gain or white level, or darks that lack an ISO.
        """
        # They are built on profiles: not to be imported with them.
        from noise_models.sampling.laws import ProfileLaw
        from noise_models.sampling.sampler import NoiseSampler

        law = ProfileLaw(
            self,
            isos=isos,
            iso_range=iso_range,
            white_level=white_level,
            black_clamp=black_clamp,
            draw_uncertainty=draw_uncertainty,
        )
        return NoiseSampler(law, darks=darks, reparametrised=reparametrised)

    def _refusal(self, iso: float, reason: str) -> str:
        known = ", ".join(f"{value:g}" for value in self.isos)
        return (
            f"The profile of {self.model!r} says nothing about ISO {iso:g}: {reason} (measured: {known}). "
            "Calibrate that ISO with 'physrestore calibrate'."
        )
