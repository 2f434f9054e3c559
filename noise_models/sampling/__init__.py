"""Realistic noise for batches of clean images, drawn from profiles, from a prior over cameras, or from real darks."""

from noise_models.sampling.dark_library import DarkLibrary as DarkLibrary
from noise_models.sampling.laws import NoiseLaw as NoiseLaw
from noise_models.sampling.laws import ProfileLaw as ProfileLaw
from noise_models.sampling.laws import WidePrior as WidePrior
from noise_models.sampling.parameters import NoiseParameters as NoiseParameters
from noise_models.sampling.sampler import NoiseSampler as NoiseSampler
from noise_models.sampling.sampler import NoisyBatch as NoisyBatch
