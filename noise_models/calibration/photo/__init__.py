"""Noise from ordinary photos: masked pixels, the smooth parts of one picture, several pictures pooled."""
