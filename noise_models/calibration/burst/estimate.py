"""A camera's noise from a burst: two or more photos of one scene that stands still.

What two such photos have in common cancels in their difference, texture and all, so that any scene with dark and bright
areas gives a photon-transfer curve; what moved is found and left out. Black level and dark noise come from the masked
pixels where the files hold them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noise_models.calibration.burst.law import Selection, select_still, transfer_points
from noise_models.calibration.burst.lines import line_noise
from noise_models.calibration.burst.tiles import SIDE, BurstTiles, burst_tiles, join_pairs
from noise_models.calibration.fits import std_from_variance
from noise_models.calibration.flat import MISMATCH
from noise_models.calibration.photo.optical_black import OpticalBlack, measure_optical_black
from noise_models.calibration.photo.photo_evidence import MASKED_VARIANCE_ERROR, MAX_GAIN_ERROR, Trust
from noise_models.calibration.photo.single_photo import MASKED_CONFLICT_SIGMAS, NotIdentifiable
from noise_models.calibration.photon_transfer import TransferCurve, TransferPoints, fit_curve, join
from noise_models.cfa import Cfa
from noise_models.errors import CalibrationError
from noise_models.frame import RawFrame
from noise_models.sensor import QUANTISATION_VARIANCE_DN2, Estimate, PlaneNoise, SensorNoise

F64 = NDArray[np.float64]

# A file's black level is a whole number at best, and drifts by as much with temperature.
STATED_BLACK_ERROR_DN = 0.5
# A plane that knows its own K worse than this takes the K of all planes together.
OWN_GAIN_ERROR = 0.1
# Beyond these the grade is no longer good, or is poor: relative error of K, share of moving tiles, chi^2 of the line.
_GRADES = {"gain": (0.05, 0.15), "moving": (0.3, 0.7), "chi2": (2.0, 4.0)}
# Above this share of the noise, what lattices have in common has spoilt K; its standard errors that it must exceed.
MAX_COHERENT = 0.1
_COHERENT_SIGMAS = 2.0
# From here on the notes mention the light.
_UNSTEADY = 0.02
_METHOD = "differences of a burst"


class BurstNotIdentifiable(NotIdentifiable):
    """A burst that does not determine its noise; ``reasons`` says why."""

    def __init__(self, reasons: tuple[str, ...]) -> None:
        super().__init__(reasons)
        text = (
            f"This burst does not determine its noise: {' '.join(reasons)} Take two or more photos of a still scene "
            "with dark and bright areas from a tripod, at one exposure, with a self-timer."
        )
        self.args = (text,)


@dataclass(frozen=True)
class BurstEvidence:
    """What the estimate rests on.

    Attributes:
        transfer: Photon-transfer curve per plane; where a plane took the K of all, that of all.
        light_ratios: Light of the first over the second frame, one a pair and plane.
        motion_px: Shift between the frames of a pair [px], rms, with its standard error.
        moving_share: Share of the tiles in which something moved.
        used_share: Share of all tiles that were used.
        textured_excess: Variance in the most textured tiles over that of the law: 1 where nothing moved.
        coherent_share: What neighbouring sites' differences have in common in the used tiles, as a share of the noise,
            and its standard error: 0 for noise, near 1 for motion.
        optical_black: Of the first frame, or None.
        used_masked_noise: Whether masked pixels constrained the read noise.
        frames: Frames read.
    """

    transfer: Mapping[str, TransferCurve]
    light_ratios: tuple[float, ...]
    motion_px: tuple[float, float]
    moving_share: float
    used_share: float
    textured_excess: float
    coherent_share: tuple[float, float]
    optical_black: OpticalBlack | None
    used_masked_noise: bool
    frames: int


@dataclass(frozen=True)
class BurstEstimate:
    """The noise told from a burst.

    Attributes:
        noise: Origin "estimated", every value with its standard error.
        trust: "good": K within 10 % with 95 % probability in every plane and a line that fits; "fair"; "poor".
        reasons: What limits the trust, one sentence each.
        evidence: For reports.
    """

    noise: SensorNoise
    trust: Trust
    reasons: tuple[str, ...]
    evidence: BurstEvidence


def estimate_from_burst(frames: Iterable[RawFrame]) -> BurstEstimate:
    """Gain, read noise, black level, row and column noise from photos of one still scene.

    Frames form pairs in their order; an odd last one is not used. Light that changes between them is scaled out, moving
    parts and textured parts of a shifted frame are left out.

    Args:
        frames: Two or more of one camera, ISO and exposure; two are held in memory at a time.

    Returns:
        The estimate.

    Raises:
        BurstNotIdentifiable: motion dominates, too little light or range of light, or clipped.
        CalibrationError: fewer than two frames, copies of one frame, or frames of different settings.
    """
    parts, masked, first, count, notes = _all_pairs(frames)
    tiles = join_pairs(parts)
    if tiles.usable.sum() == 0:
        raise BurstNotIdentifiable(("no part of it keeps clear of clipping.",))
    selection = select_still(tiles)
    coherent, coherent_error = selection.coherent_share
    if coherent > MAX_COHERENT + _COHERENT_SIGMAS * coherent_error:
        text = f"neighbouring sites agree on {coherent:.0%} of what changed between the frames: motion, not noise."
        raise BurstNotIdentifiable((text, *_moved(selection, first.cfa)))
    dark, conflict = _dark_noise(tiles, selection, masked)
    offset_error = _black_error(masked)
    curves, shared = _curves(tiles, selection, first, dark, offset_error)
    try:
        row, column = (line_noise(tiles, selection, along_rows=rows) for rows in (True, False))
    except CalibrationError as error:
        raise BurstNotIdentifiable((str(error),)) from error
    evidence = BurstEvidence(
        transfer=curves,
        light_ratios=tiles.ratios,
        motion_px=_motion(selection, first.cfa),
        moving_share=selection.moving_share,
        used_share=float(selection.used.mean()),
        textured_excess=selection.textured_excess,
        coherent_share=selection.coherent_share,
        optical_black=masked[0] if masked else None,
        used_masked_noise=dark is not None,
        frames=count,
    )
    planes = {name: _plane(name, curves[name], selection, first, masked) for name in first.cfa.plane_names}
    trust, reasons = _grade(planes, evidence, shared)
    told = (*reasons, *conflict, *notes, *_light_note(tiles.ratios))
    noise = SensorNoise(
        iso=first.shot.iso, planes=planes, row_noise_dn=row, column_noise_dn=column, origin="estimated", notes=told
    )
    return BurstEstimate(noise=noise, trust=trust, reasons=told, evidence=evidence)


def _all_pairs(
    frames: Iterable[RawFrame],
) -> tuple[list[BurstTiles], list[OpticalBlack], RawFrame, int, tuple[str, ...]]:
    """Tiles of every pair, the masked pixels of every frame, the first frame, the number of frames, notes."""
    parts: list[BurstTiles] = []
    masked: list[OpticalBlack] = []
    notes: list[str] = []
    first: RawFrame | None = None
    waiting: RawFrame | None = None
    count = 0
    for frame in frames:
        first = first or frame
        _check_alike(first, frame)
        count += 1
        if waiting is None:
            waiting = frame
            continue
        found = [measure_optical_black(one) for one in (waiting, frame)]
        if np.array_equal(waiting.mosaic, frame.mosaic):
            raise CalibrationError("Two frames of the burst are copies of each other. Give different exposures.")
        tiles = burst_tiles(waiting, frame, (_black(waiting, found[0]), _black(frame, found[1])))
        if all(1.0 / MISMATCH < ratio < MISMATCH for ratio in tiles.ratios):
            parts.append(tiles)
            masked += [one for one in found if one is not None]
        else:
            ratio = max(tiles.ratios, key=lambda value: abs(math.log(value)))
            notes.append(f"A pair differs in light by a factor {ratio:.2f} and was left out.")
        waiting = None
    if first is None or count < 2:
        raise CalibrationError(f"A burst needs two or more photos of one still scene; there are {count}.")
    if not parts:
        raise BurstNotIdentifiable(tuple(notes))
    if waiting is not None:
        notes.append("The last frame has no partner and was not used.")
    return parts, masked if len(masked) == 2 * len(parts) else [], first, count, tuple(notes)


def _check_alike(first: RawFrame, frame: RawFrame) -> None:
    def told(one: RawFrame) -> str:
        height, width = one.shape
        return f"{one.shot.camera} {height}x{width} {one.cfa.name} ISO {one.shot.iso}"

    if told(first) != told(frame):
        raise CalibrationError(
            f"The frames of a burst must be alike; one is {told(frame)}, the first {told(first)}. "
            "Give one burst of one camera and ISO at a time."
        )


def _black(frame: RawFrame, masked: OpticalBlack | None) -> F64:
    """Black per site [DN]: this shot's masked pixels, else the file's statement."""
    black = frame.black_level.astype(np.float64)
    for i, row in enumerate(frame.cfa.plane_of_site):
        for j, name in enumerate(row):
            if masked is not None and name in masked.black_level_dn:
                black[i, j] = masked.black_level_dn[name].value
    return black


def _black_error(masked: list[OpticalBlack]) -> float:
    """Standard error of the black level that all frames share [DN]."""
    if not masked:
        return STATED_BLACK_ERROR_DN
    errors = [level.standard_error or 0.0 for one in masked for level in one.black_level_dn.values()]
    return float(np.mean(errors)) / math.sqrt(len(masked))


def _dark_noise(
    tiles: BurstTiles, selection: Selection, masked: list[OpticalBlack]
) -> tuple[TransferPoints | None, tuple[str, ...]]:
    """The masked pixels as a point at no light, unless the image contradicts them."""
    if not masked:
        return None, ()
    variance = float(np.mean([one.read_noise_dn.value**2 for one in masked]))
    own = float(np.mean([2 * one.read_noise_dn.value * (one.read_noise_dn.standard_error or 0.0) for one in masked]))
    error = math.hypot(own / math.sqrt(len(masked)), MASKED_VARIANCE_ERROR * variance)
    darkest = {}
    for name in selection.laws:
        points = transfer_points(tiles, selection.used, name)
        if points is not None:
            darkest[name] = points.variance_dn2[0], points.error_dn2[0]
    quieter = [(variance - seen) / math.hypot(error, seen_error) for seen, seen_error in darkest.values()]
    if quieter and max(quieter) > MASKED_CONFLICT_SIGMAS:
        return None, ("The masked pixels are noisier than the image; only their black level was used.",)
    total = variance + QUANTISATION_VARIANCE_DN2
    return TransferPoints(np.zeros(1), np.array([variance]), np.array([error / total]), np.zeros(1)), ()


def _curves(
    tiles: BurstTiles, selection: Selection, frame: RawFrame, dark: TransferPoints | None, offset_error: float
) -> tuple[dict[str, TransferCurve], tuple[str, ...]]:
    """A curve for every plane, and the planes that took the curve of all."""
    points = {name: transfer_points(tiles, selection.used, name) for name in frame.cfa.plane_names}
    known = {name: part for name, part in points.items() if part is not None}
    if not known:
        raise BurstNotIdentifiable(_no_still_part(tiles, selection, frame.cfa))
    spans = {
        name: min(float(frame.white_level[s] - frame.black_level[s]) for s in frame.cfa.sites(name)) for name in known
    }
    curves = {name: _curve([part], dark, spans[name], offset_error) for name, part in known.items()}
    good = {name: c for name, c in curves.items() if c is not None and _gain_error(c) <= OWN_GAIN_ERROR}
    missing = tuple(name for name in frame.cfa.plane_names if name not in good)
    if not missing:
        return good, ()
    pooled = _curve(list(known.values()), dark, min(spans.values()), offset_error)
    if pooled is None or _gain_error(pooled) > MAX_GAIN_ERROR:
        raise BurstNotIdentifiable(_uncertain(pooled, selection, frame.cfa))
    return {name: good.get(name, pooled) for name in frame.cfa.plane_names}, missing


def _curve(
    points: list[TransferPoints], dark: TransferPoints | None, span: float, offset_error: float
) -> TransferCurve | None:
    try:
        curve = fit_curve(join(points if dark is None else [dark, *points]), range_dn=span, offset_error=offset_error)
    except CalibrationError:  # no level between black and 70 % of saturation: the caller says what to do
        return None
    return curve if curve.fit.slope > 0.0 else None


def _gain_error(curve: TransferCurve | None) -> float:
    return math.inf if curve is None else math.sqrt(float(curve.fit.covariance[0, 0])) / curve.fit.slope


def _uncertain(pooled: TransferCurve | None, selection: Selection, cfa: Cfa) -> tuple[str, ...]:
    if pooled is None:
        return ("noise does not grow with light in the parts that stand still.", *_moved(selection, cfa))
    return (f"K would be uncertain by {min(_gain_error(pooled), 1.0):.0%} (one sigma).", *_moved(selection, cfa))


def _no_still_part(tiles: BurstTiles, selection: Selection, cfa: Cfa) -> tuple[str, ...]:
    used, total = int(selection.used.sum()), selection.used.size
    moved = _moved(selection, cfa)
    small = f"only {used} of {total} areas of {SIDE} x {SIDE} sites stand still and keep clear of clipping."
    return (*moved, small) if tiles.usable.any() else (small,)


def _moved(selection: Selection, cfa: Cfa) -> tuple[str, ...]:
    shift, error = _motion(selection, cfa)
    told = []
    if selection.moving_share > 0.5:
        told.append(f"something moves in {selection.moving_share:.0%} of it (hand-held?).")
    if shift > 3 * error:
        told.append(f"the camera moved by about {shift:.2f} px between the frames.")
    return tuple(told)


def _motion(selection: Selection, cfa: Cfa) -> tuple[float, float]:
    """Rms shift [px] and its standard error: ``c = shift^2 / 4`` in sites of one lattice."""
    step = 2 if cfa.is_mono else cfa.period[0]
    laws = [law for law in selection.laws.values() if math.isfinite(law.motion_error)]
    if not laws:
        return 0.0, math.inf
    weights = np.array([1.0 / max(law.motion_error, 1e-12) ** 2 for law in laws])
    c = float(np.average([law.motion for law in laws], weights=weights))
    error = 1.0 / math.sqrt(float(weights.sum()))
    as_std = std_from_variance(4.0 * c, 4.0 * error)
    return step * as_std.value, step * (as_std.standard_error or 0.0)


def _plane(
    name: str, curve: TransferCurve, selection: Selection, frame: RawFrame, masked: list[OpticalBlack]
) -> PlaneNoise:
    fit = curve.fit
    # Motion that the selection cannot exclude adds a share of the noise, here as there along the line.
    left = selection.motion_share[name]
    used = curve.points.mean_dn[curve.used]
    return PlaneNoise(
        gain=Estimate(
            value=fit.slope,
            standard_error=math.hypot(math.sqrt(fit.covariance[0, 0]), left * fit.slope),
            method=f"{_METHOD}, {int(curve.used.sum())} levels below {curve.limit_dn:.0f} DN",
        ),
        read_noise_dn=std_from_variance(
            fit.intercept,
            math.hypot(math.sqrt(fit.covariance[1, 1]), left * max(fit.intercept, 0.0)),
            method=f"{_METHOD} and masked pixels" if 0.0 in used else f"{_METHOD}, extrapolated to black",
        ),
        black_level_dn=_black_level(name, frame, masked),
        gain_read_covariance=float(fit.covariance[0, 1]),
        chi2_dof=fit.chi2_dof,
        fit_range_dn=(float(used.min()), float(used.max())),
    )


def _black_level(name: str, frame: RawFrame, masked: list[OpticalBlack]) -> Estimate:
    found = [one.black_level_dn[name] for one in masked if name in one.black_level_dn]
    if not found:
        level = float(frame.black_level[frame.cfa.sites(name)[0]])
        return Estimate(value=level, standard_error=STATED_BLACK_ERROR_DN, method="stated by the file")
    values = np.array([level.value for level in found])
    own = float(np.mean([level.standard_error or 0.0 for level in found]))
    error = max(own, float(values.std(ddof=1))) / math.sqrt(len(values))
    return Estimate(value=float(values.mean()), standard_error=error, method="optical black")


def _light_note(ratios: tuple[float, ...]) -> tuple[str, ...]:
    worst = max(abs(ratio - 1.0) for ratio in ratios)
    return (f"The light changed by up to {worst:.1%} within a pair; it was scaled out.",) if worst > _UNSTEADY else ()


def _grade(
    planes: Mapping[str, PlaneNoise], evidence: BurstEvidence, shared: tuple[str, ...]
) -> tuple[Trust, tuple[str, ...]]:
    gains = [plane.gain for plane in planes.values() if plane.gain is not None]
    worst = max((gain.standard_error or math.inf) / gain.value for gain in gains)
    chi2 = max((plane.chi2_dof or 0.0) for plane in planes.values())
    checks = (
        ("gain", worst, f"K is uncertain by {worst:.0%} (one sigma)."),
        ("moving", evidence.moving_share, f"Something moves in {evidence.moving_share:.0%} of the frame."),
        ("chi2", chi2, f"The photon-transfer line does not fit (chi^2/dof = {chi2:.1f})."),
    )
    verdicts = [(int(value > _GRADES[key][0]) + int(value > _GRADES[key][1]), text) for key, value, text in checks]
    reasons = [text for verdict, text in verdicts if verdict]
    if shared:
        verdicts.append((1, ""))
        reasons.append(f"Planes {', '.join(shared)} do not determine their own K; they have that of all planes.")
    if not evidence.used_masked_noise and evidence.optical_black is None:
        reasons.append("No masked pixels: black level as the file states it, read noise extrapolated to black.")
    grades: tuple[Trust, ...] = ("good", "fair", "poor")
    return grades[max(verdict for verdict, _ in verdicts)], tuple(reasons)
