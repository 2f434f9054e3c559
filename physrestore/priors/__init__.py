"""Priors: what is known of clean images before the data, as denoisers behind one protocol, one adapter to a file.

`base` has the protocol and what follows from it, `verify` the checks that a new prior should pass, `as_deepinv` the way
back into deepinv's solvers. Only `as_deepinv` and the priors that deepinv itself computes import deepinv.
"""
