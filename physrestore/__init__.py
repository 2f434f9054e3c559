"""Restoration of raw photographs from a calibrated model of their noise."""

__version__ = "0.1.0"
