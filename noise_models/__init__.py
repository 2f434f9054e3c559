"""The physics of a camera's noise: raw frames in, noise profiles and realistic noise out."""
