"""The noise of one sensor at one ISO: every quantity with unit, uncertainty and how it was measured.

The signal chain (docs/noise_model.md; `m` is the mean above black in DN, all stds temporal per pixel):

    variance(m) = K m + read_noise_dn^2 + row_noise_dn^2 + column_noise_dn^2 + 1/12

Storage is in DN, the unit in which a camera speaks; electrons are derived through K. Normalised variances
``a x + b`` are a view (`SensorNoise.affine`), never storage.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator
from scipy import special

from noise_models.cfa import BAYER_PLANES, Cfa
from noise_models.errors import ProfileError

# Rounding to whole DN adds the variance of a uniform error of one step (EMVA 1288 Release 4.0 Linear, section 2.5).
QUANTISATION_VARIANCE_DN2 = 1.0 / 12.0

# Bounds refuse nonsense, not unusual cameras: 32-bit DN and gains from deep-well to electron-multiplying sensors.
MAX_DN = 2.0**32
NonNegative = Annotated[FiniteFloat, Field(ge=0.0, le=MAX_DN)]
PLANE_SETS = (set(BAYER_PLANES), {"R", "G", "B"}, {"M"})


class Model(BaseModel):
    """Strict and frozen: wrong types, unknown keys and non-finite numbers are refused where they appear."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Estimate(Model):
    """One measured quantity.

    Attributes:
        value: In the unit that the owning field names.
        standard_error: One sigma in the same unit; None where it is not known (a nominal value).
        method: How it was measured, in a few words.
    """

    value: FiniteFloat
    standard_error: NonNegative | None = None
    method: Annotated[str, Field(max_length=200)] = ""

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Central interval of the given coverage, normal approximation.

        Raises:
            ValueError: the standard error is not known.

        >>> Estimate(value=2.0, standard_error=0.1).interval(0.95)
        (1.804..., 2.195...)
        """
        if self.standard_error is None:
            raise ValueError(
                f"No interval: the standard error of {self.value} ({self.method or 'no method'}) is unknown."
            )
        z = float(special.ndtri(0.5 + level / 2))
        return self.value - z * self.standard_error, self.value + z * self.standard_error


class Tail(Model):
    """Shape of the read noise beyond its standard deviation.

    Attributes:
        kind: "gaussian"; "lognormal": each pixel is Gaussian with its own fixed sigma, log sigma ~ N(., shape^2);
            "tukey": independent Tukey-lambda draws with lambda = shape (ELD, Wei et al., CVPR 2020).
        shape: Width of log sigma, or lambda; None for "gaussian".
    """

    kind: Literal["gaussian", "lognormal", "tukey"] = "gaussian"
    shape: Estimate | None = None

    @model_validator(mode="after")
    def _shape_present(self) -> Self:
        if (self.kind == "gaussian") != (self.shape is None):
            raise ValueError(f"A {self.kind} tail {'takes no' if self.kind == 'gaussian' else 'needs a'} shape.")
        return self


class HotPixels(Model):
    """Sites whose dark value stands out, as a population; their places live in a map beside the profile.

    Attributes:
        fraction: Share of all sites.
        excess_dn: Mean excess over the black level [DN] at the exposure of the darks.
    """

    fraction: Estimate
    excess_dn: Estimate


class PlaneNoise(Model):
    """One colour plane of the sensor at one ISO.

    Attributes:
        gain: System gain K [DN/e-]. None: only darks were seen.
        read_noise_dn: Temporal dark noise of one pixel, std [DN]; row, column and quantisation noise excluded.
        black_level_dn: Mean of a dark frame [DN].
        saturation_dn: Level [DN] at which the response ends. None: never reached by the frames.
        prnu: Photo-response non-uniformity, std, as a ratio (never %).
        dsnu_dn: Dark-signal non-uniformity, spatial std of the mean dark frame [DN].
        dark_current: Mean dark signal [e-/s].
        linearity_error: Largest deviation from the straight line, as a ratio.
        gain_read_covariance: Covariance of K and of the read variance (K [DN/e-] x DN^2) from the common fit.
        chi2_dof: Reduced chi^2 of the photon-transfer fit.
        fit_range_dn: Means above black [DN] that the fit used.
    """

    gain: Estimate | None = None
    read_noise_dn: Estimate
    black_level_dn: Estimate
    saturation_dn: Estimate | None = None
    prnu: Estimate | None = None
    dsnu_dn: Estimate | None = None
    dark_current: Estimate | None = None
    linearity_error: Estimate | None = None
    gain_read_covariance: FiniteFloat | None = None
    chi2_dof: NonNegative | None = None
    fit_range_dn: tuple[FiniteFloat, FiniteFloat] | None = None

    @model_validator(mode="after")
    def _physical(self) -> Self:
        if self.gain is not None and not 0.0 < self.gain.value < MAX_DN:
            raise ValueError(f"gain must be positive [DN/e-], not {self.gain.value}.")
        for name in ("read_noise_dn", "prnu", "dsnu_dn"):
            estimate = getattr(self, name)
            if estimate is not None and not 0.0 <= estimate.value < MAX_DN:
                raise ValueError(f"{name} is a standard deviation and cannot be {estimate.value}.")
        return self

    @property
    def read_noise(self) -> Estimate | None:
        """Read noise referred to the input [e-]: read_noise_dn / K, errors propagated to first order."""
        return _divide(self.read_noise_dn, self.gain)

    @property
    def dsnu(self) -> Estimate | None:
        """DSNU1288 [e-]: dsnu_dn / K."""
        return None if self.dsnu_dn is None else _divide(self.dsnu_dn, self.gain)

    def variance(self, mean_dn: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Temporal variance of one pixel [DN^2] at a mean above black [DN]; negative means count as zero.

        Row and column noise are not part of it (`SensorNoise.variance` adds them).

        Raises:
            ProfileError: the gain is not known.
        """
        if self.gain is None:
            raise ProfileError(
                "The variance at a signal level needs the gain K, and this profile comes from darks only. "
                "Calibrate with flats."
            )
        signal = np.maximum(np.asarray(mean_dn, dtype=np.float64), 0.0)
        return self.gain.value * signal + self.read_noise_dn.value**2 + QUANTISATION_VARIANCE_DN2


class SensorNoise(Model):
    """The noise of one sensor at one ISO.

    Attributes:
        iso: As the file states it; None where it does not (never inside a profile, see `setting`).
        planes: Plane name -> noise; the names of `Cfa.plane_names`.
        row_noise_dn: Std of the temporal offset common to one row [DN].
        column_noise_dn: The same of one column [DN].
        tail: Shape of the read noise.
        hot_pixels: Population of hot sites at the darks' exposure.
        black_jitter_dn: Std of the black level between frames [DN].
        dark_shading_dn: Rms of the smooth part of the mean dark frame [DN].
        exposure_s: Shortest and longest exposure of the darks [s].
        segment: Conversion-gain segment, counted from the lowest ISO.
        origin: "measured", "interpolated", "estimated" (from ordinary photos), "published" or "nominal".
        notes: What a user should know, one sentence each.
    """

    iso: Annotated[FiniteFloat, Field(gt=0.0, le=1e8)] | None
    planes: dict[str, PlaneNoise]
    row_noise_dn: Estimate
    column_noise_dn: Estimate | None = None
    tail: Tail = Tail()
    hot_pixels: HotPixels | None = None
    black_jitter_dn: Estimate | None = None
    dark_shading_dn: Estimate | None = None
    exposure_s: tuple[FiniteFloat, FiniteFloat] | None = None
    segment: Annotated[int, Field(ge=0)] = 0
    origin: Literal["measured", "interpolated", "estimated", "published", "nominal"] = "measured"
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _known_planes(self) -> Self:
        if set(self.planes) not in PLANE_SETS:
            raise ValueError(f"planes must be R, G1, G2, B; R, G, B; or M, not {', '.join(sorted(self.planes))}.")
        if self.row_noise_dn.value < 0 or (self.column_noise_dn is not None and self.column_noise_dn.value < 0):
            raise ValueError("Row and column noise are standard deviations and cannot be negative.")
        return self

    @property
    def setting(self) -> float:
        """The ISO, where there must be one.

        Raises:
            ProfileError: the file that this noise was estimated from does not state its ISO.
        """
        if self.iso is None:
            raise ProfileError("This noise was estimated from a file that does not state its ISO. Pass the ISO.")
        return self.iso

    def line_variance(self) -> float:
        """Variance [DN^2] that whole rows and columns have in common."""
        column = 0.0 if self.column_noise_dn is None else self.column_noise_dn.value**2
        return self.row_noise_dn.value**2 + column

    def variance(self, plane: str, mean_dn: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Total temporal variance [DN^2] of one site of ``plane`` at a mean above black [DN]."""
        return self.planes[plane].variance(mean_dn) + self.line_variance()

    def affine(self, cfa: Cfa, black: NDArray[np.float64], white: NDArray[np.float64]) -> AffineVariance:
        """The variance of ``x = (DN - black) / (white - black)`` as ``a x + b`` per CFA site.

        Row and column noise are left out: they are not independent from pixel to pixel.

        Args:
            cfa: Of the frame.
            black: Black level per site [DN], shape ``cfa.period``.
            white: White level per site [DN], same shape.

        Raises:
            ProfileError: the profile's planes are not those of ``cfa``, or the gain is not known.
        """
        if set(self.planes) != set(cfa.plane_names):
            raise ProfileError(
                f"This profile describes planes {', '.join(self.planes)}; the frame's CFA {cfa.name!r} has "
                f"{', '.join(cfa.plane_names)}. Calibrate this camera itself."
            )
        a, b = np.empty(cfa.period), np.empty(cfa.period)
        for i, row in enumerate(cfa.plane_of_site):
            for j, name in enumerate(row):
                scale = white[i, j] - black[i, j]
                dark, one = self.planes[name].variance(0.0), self.planes[name].variance(1.0)
                a[i, j], b[i, j] = (one - dark) / scale, dark / scale**2
        return AffineVariance(a=a, b=b)


class AffineVariance:
    """``variance(x) = a x + b`` per CFA site, x in 0..1: DNG's (S, O). A view of a profile, never its storage.

    Attributes:
        a: Shape ``cfa.period``.
        b: Shape ``cfa.period``.
    """

    def __init__(self, *, a: NDArray[np.float64], b: NDArray[np.float64]) -> None:
        self.a, self.b = a, b

    def per_colour(self, cfa: Cfa) -> tuple[tuple[float, float], ...]:
        """(a, b) averaged over the sites of each colour, R, G, B (one pair for monochrome): DNG's NoiseProfile."""
        colours = ("M",) if cfa.is_mono else ("R", "G", "B")
        sites = [[(i, j) for i, row in enumerate(cfa.rows) for j, c in enumerate(row) if c == one] for one in colours]
        return tuple(
            (float(np.mean([self.a[s] for s in group])), float(np.mean([self.b[s] for s in group]))) for group in sites
        )

    def __repr__(self) -> str:
        return f"AffineVariance(a={self.a.tolist()}, b={self.b.tolist()})"


def _divide(numerator: Estimate, gain: Estimate | None) -> Estimate | None:
    if gain is None:
        return None
    value = numerator.value / gain.value
    if numerator.standard_error is None or gain.standard_error is None:
        return Estimate(value=value, method=numerator.method)
    error = math.hypot(numerator.standard_error / gain.value, value * gain.standard_error / gain.value)
    return Estimate(value=value, standard_error=error, method=numerator.method)
