"""Noise from two or more photos of a still scene."""
