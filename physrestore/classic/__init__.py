"""Restoration without weights or training: stabilise the variance, repair, denoise, and come back unbiased."""

from physrestore.classic.restore import ClassicResult as ClassicResult
from physrestore.classic.restore import denoise_classic as denoise_classic
