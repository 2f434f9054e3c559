"""Many uncertain answers about one camera become one per ISO: robust pooling, grades, and the profile."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from noise_models.calibration.photo.photo_evidence import MAX_GAIN_ERROR, Trust
from noise_models.calibration.photo.single_photo import NotIdentifiable
from noise_models.calibration.segments import segment_ids
from noise_models.errors import CalibrationError
from noise_models.frame import RawFrame
from noise_models.profile import CameraProfile, FrameRecord, Provenance
from noise_models.sensor import Estimate, PlaneNoise, SensorNoise

F64 = NDArray[np.float64]

# An answer this many sigmas (its own and the others' scatter) from the median of three or more is left out.
OUTLIER_SIGMAS = 4.0
# Relative error of K from which a pooled answer is no longer good, and from which it is poor.
FAIR_GAIN_ERROR, POOR_GAIN_ERROR = 0.1, 0.2
# K / ISO further than this from the median of the other ISOs, and beyond three sigmas, is told.
_PROPORTIONAL = 0.15
_MAD_TO_STD = 1.4826
_GRADES: tuple[Trust, ...] = ("good", "fair", "poor")


@dataclass(frozen=True)
class Answer:
    """What one photo or burst says.

    Attributes:
        name: Of the file or burst.
        noise: With standard errors; its ISO is known.
        trust: Of this answer alone.
        reasons: What limits the trust.
    """

    name: str
    noise: SensorNoise
    trust: Trust
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Refusal:
    """A photo or burst that does not determine its noise."""

    name: str
    iso: float
    error: NotIdentifiable


@dataclass(frozen=True)
class IsoOutcome:
    """One ISO of a pooled profile.

    Attributes:
        iso: The setting.
        trust: Grade of the pooled values; None: not identifiable, the profile has no entry.
        reasons: What limits the trust, or why there is no entry.
        gain_upper: K is below this [DN/e-] as far as the refused ones tell; None: they do not.
        answers: Photos or bursts that were pooled.
        refused: Photos or bursts that do not determine their noise.
    """

    iso: float
    trust: Trust | None
    reasons: tuple[str, ...]
    gain_upper: float | None
    answers: int
    refused: int


@dataclass(frozen=True)
class PooledProfile:
    """A profile from ordinary photos or bursts.

    Attributes:
        profile: One entry for each ISO that can be told.
        outcomes: One for each ISO that was given.
        left_out: One sentence for every file that could not be used.
    """

    profile: CameraProfile
    outcomes: tuple[IsoOutcome, ...]
    left_out: tuple[str, ...]


class NothingIdentifiable(NotIdentifiable):
    """No ISO of a set of photos or bursts can be told; ``outcomes`` says why for each."""

    def __init__(self, outcomes: tuple[IsoOutcome, ...], left_out: tuple[str, ...]) -> None:
        reasons = tuple(f"ISO {one.iso:g}: {' '.join(one.reasons)}" for one in outcomes)
        super().__init__(reasons)
        self.outcomes = outcomes
        text = (
            f"Not identifiable. {' '.join((*reasons, *left_out))} Use darks and flats, a burst from a tripod, or "
            "defocused photos of the same ISO."
        )
        self.args = (text,)


def pool_isos(
    answers: Sequence[Answer],
    refusals: Sequence[Refusal],
    *,
    camera: RawFrame,
    records: Sequence[FrameRecord],
    left_out: Sequence[str],
    unseen: float,
    kind: str,
) -> PooledProfile:
    """Pool answers of each ISO and make the profile.

    Args:
        answers: Of one camera, ISOs mixed.
        refusals: Of the same camera.
        camera: Any frame of it.
        records: For the provenance.
        left_out: Notes on files that could not be read.
        unseen: Error of K, as a ratio, that all answers may share and that averaging does not reduce.
        kind: "photo" or "burst", for the notes.

    Raises:
        NothingIdentifiable: no ISO can be told.
    """
    entries, outcomes = [], []
    for iso in sorted({answer.noise.setting for answer in answers} | {refusal.iso for refusal in refusals}):
        own = [answer for answer in answers if answer.noise.setting == iso]
        refused = [refusal for refusal in refusals if refusal.iso == iso]
        noise, outcome = _pool_iso(iso, own, refused, unseen, kind)
        outcomes.append(outcome)
        entries += [] if noise is None else [noise]
    if not entries:
        raise NothingIdentifiable(tuple(outcomes), tuple(left_out))
    missing = [f"ISO {one.iso:g} is not identifiable: {' '.join(one.reasons)}" for one in outcomes if one.trust is None]
    profile = CameraProfile(
        make=camera.shot.make,
        model=camera.shot.model,
        cfa=camera.cfa.name,
        entries=with_segments(entries),
        provenance=Provenance(
            tool=f"physrestore {version('physrestore')}",
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            frames=tuple(records),
        ),
        notes=(*left_out, *missing, *_proportionality(entries)),
    )
    return PooledProfile(profile, tuple(outcomes), tuple(left_out))


def fill_in(profiles: Sequence[CameraProfile]) -> CameraProfile:
    """One profile from several of one camera: each ISO from the first one that has it.

    Args:
        profiles: The most trusted first; at least one.

    Raises:
        CalibrationError: different cameras.
    """
    first = profiles[0]
    entries: dict[float, SensorNoise] = {}
    for profile in profiles:
        same_planes = set(profile.entries[0].planes) == set(first.entries[0].planes)
        if (profile.make, profile.model) != (first.make, first.model) or not same_planes:
            raise CalibrationError(
                f"The sources are of different cameras: {first.make} {first.model} ({first.cfa}) and "
                f"{profile.make} {profile.model} ({profile.cfa}). Calibrate one camera at a time."
            )
        for entry in profile.entries:
            entries.setdefault(entry.setting, entry)
    frames = tuple(dict.fromkeys(frame for profile in profiles for frame in profile.provenance.frames))
    return first.model_copy(
        update={
            "entries": with_segments([entries[iso] for iso in sorted(entries)]),
            "provenance": first.provenance.model_copy(update={"frames": frames}),
            "notes": tuple(dict.fromkeys(note for profile in profiles for note in profile.notes)),
        }
    )


def with_segments(entries: Sequence[SensorNoise]) -> tuple[SensorNoise, ...]:
    """Entries, sorted by ISO, with the conversion-gain segments that their read noise shows."""
    reads = []
    for entry in entries:
        planes = [plane.read_noise_dn for plane in entry.planes.values()]
        errors = [read.standard_error or 0.0 for read in planes]
        # The largest, not the combined error: planes of one photo share theirs.
        reads.append(Estimate(value=float(np.mean([read.value for read in planes])), standard_error=max(errors)))
    return tuple(
        entry.model_copy(update={"segment": segment})
        for entry, segment in zip(entries, segment_ids(reads), strict=True)
    )


def pool(estimates: Sequence[Estimate], *, relative: bool = False) -> tuple[Estimate, int]:
    """Inverse-variance mean with the scatter between answers, outliers left out.

    The scatter is the median-unbiased form of Paule and Mandel's (1982): chi^2 of the answers becomes its median.

    Where answers scatter more than their errors explain, the error is that of Student's t for so few of them.

    Args:
        estimates: At least one. Values without standard error count only where no other is known.
        relative: Errors are ratios of a positive value: weigh by those, or answers that happen to be low weigh more.

    Returns:
        The pooled estimate, and how many answers were left out as outliers.

    >>> pool([Estimate(value=1.0, standard_error=0.1), Estimate(value=1.05, standard_error=0.1)])[0].value
    1.025
    """
    known = [one for one in estimates if one.standard_error] or list(estimates)
    if len(known) == 1:
        return known[0], 0
    values = np.array([one.value for one in known])
    if any(not one.standard_error for one in known):
        spread = float(values.std(ddof=1) / math.sqrt(values.size))
        return known[0].model_copy(update={"value": float(values.mean()), "standard_error": spread or None}), 0
    errors = np.array([one.standard_error or 0.0 for one in known])
    centre = float(np.median(values))
    if relative:
        errors = errors / values * centre
    kept = np.ones(values.size, dtype=bool)
    if values.size > 2:
        scatter = _MAD_TO_STD * float(np.median(np.abs(values - centre)))
        kept = np.abs(values - centre) <= OUTLIER_SIGMAS * np.hypot(errors, scatter)
    value, error = _paule_mandel(values[kept], errors[kept])
    method = f"{known[0].method[:120]}; {int(kept.sum())} pooled"
    return Estimate(value=value, standard_error=error, method=method), int((~kept).sum())


def _paule_mandel(values: F64, errors: F64) -> tuple[float, float]:
    expected = float(stats.chi2.ppf(0.5, max(values.size - 1, 1)))

    def excess(between: float) -> float:
        weight = 1.0 / (errors**2 + between)
        mean = float(weight @ values / weight.sum())
        return float(weight @ (values - mean) ** 2) - expected

    between = 0.0
    if values.size > 1 and excess(0.0) > 0.0:
        top = float(values.var(ddof=1)) * values.size
        between = float(optimize.brentq(excess, 0.0, top)) if excess(top) < 0.0 else top
    weight = 1.0 / (errors**2 + between)
    error = 1.0 / math.sqrt(float(weight.sum()))
    if between > 0.0:
        error *= float(stats.t.ppf(0.975, values.size - 1) / stats.norm.ppf(0.975))
    return float(weight @ values / weight.sum()), error


def _pool_iso(
    iso: float, answers: Sequence[Answer], refused: Sequence[Refusal], unseen: float, kind: str
) -> tuple[SensorNoise | None, IsoOutcome]:
    uppers = [one.error.gain_upper for one in refused if one.error.gain_upper is not None]
    upper = min(uppers, default=None)

    def outcome(trust: Trust | None, reasons: Sequence[str]) -> IsoOutcome:
        return IsoOutcome(iso, trust, tuple(reasons), upper, len(answers), len(refused))

    if not answers:
        bound = () if upper is None else (f"K is below {upper:.3g} DN/e-.",)
        told = tuple(dict.fromkeys(f"{one.name}: {' '.join(one.error.reasons)}" for one in refused))
        return None, outcome(None, (*told, *bound))
    planes, dropped = _pool_planes(answers, unseen)
    worst = max((p.gain.standard_error or 0.0) / p.gain.value for p in planes.values() if p.gain is not None)
    if worst > MAX_GAIN_ERROR:
        return None, outcome(None, (f"the {kind}s disagree: K would be uncertain by {worst:.0%} (one sigma).",))
    grade = max(
        int(worst > FAIR_GAIN_ERROR) + int(worst > POOR_GAIN_ERROR),
        min(_GRADES.index(answer.trust) for answer in answers),
    )
    reasons = list(answers[0].reasons) if len(answers) == 1 else []
    if worst > FAIR_GAIN_ERROR and len(answers) > 1:
        reasons.append(f"K is uncertain by {worst:.0%} (one sigma).")
    if dropped:
        reasons.append(f"{dropped} of {len(answers)} {kind}s disagreed with the others on K and did not count for it.")
    lowest = min(p.gain.value - 2.0 * (p.gain.standard_error or 0.0) for p in planes.values() if p.gain is not None)
    if upper is not None and upper < lowest:
        grade = min(grade + 1, len(_GRADES) - 1)
        reasons.append(f"Refused {kind}s bound K below {upper:.3g} DN/e-, less than the others say.")
    trust = _GRADES[grade]
    used = f"Trust: {trust}. From {len(answers)} {kind}{'s' if len(answers) > 1 else ''}"
    used += f"; {len(refused)} more did not determine the noise." if refused else "."
    noise = SensorNoise(
        iso=iso,
        planes=planes,
        row_noise_dn=pool([answer.noise.row_noise_dn for answer in answers])[0],
        column_noise_dn=_optional([answer.noise.column_noise_dn for answer in answers]),
        origin="estimated",
        notes=(used, *reasons),
    )
    return noise, outcome(trust, reasons)


def _pool_planes(answers: Sequence[Answer], unseen: float) -> tuple[dict[str, PlaneNoise], int]:
    planes, dropped = {}, 0
    for name in answers[0].noise.planes:
        own = [answer.noise.planes[name] for answer in answers]
        gain, outliers = pool([plane.gain for plane in own if plane.gain is not None], relative=True)
        floor = unseen * gain.value
        gain = gain.model_copy(update={"standard_error": max(gain.standard_error or 0.0, floor)})
        dropped = max(dropped, outliers)
        if len(own) == 1:
            planes[name] = own[0].model_copy(update={"gain": gain})
            continue
        # What belongs to one fit (its chi^2, range, covariance) does not survive a mean of several.
        planes[name] = PlaneNoise(
            gain=gain,
            read_noise_dn=pool([plane.read_noise_dn for plane in own])[0],
            black_level_dn=pool([plane.black_level_dn for plane in own])[0],
        )
    return planes, dropped


def _optional(found: Sequence[Estimate | None]) -> Estimate | None:
    known = [one for one in found if one is not None]
    return pool(known)[0] if known else None


def _proportionality(entries: Sequence[SensorNoise]) -> list[str]:
    """Notes on ISOs whose K is off proportionality: a weak check that changes no value."""
    ratios = {}
    for entry in entries:
        gains = [plane.gain for plane in entry.planes.values() if plane.gain is not None]
        value = float(np.mean([gain.value for gain in gains])) / entry.setting
        ratios[entry.setting] = value, max(gain.standard_error or 0.0 for gain in gains) / entry.setting
    if len(ratios) < 3:
        return []
    centre = float(np.median([value for value, _ in ratios.values()]))
    return [
        f"ISO {iso:g}: K is {value / centre - 1:+.0%} off proportionality to the other ISOs (a weak check only)."
        for iso, (value, error) in ratios.items()
        if abs(value / centre - 1.0) > _PROPORTIONAL and abs(value - centre) > 3.0 * error
    ]
