"""Solvers: generators of iterates around a data term and a prior, one to a file, and what chooses their parameters.

They take callables: ``prox_fidelity(x, gamma)``, ``gradient(x)``, ``denoise(x, noise_level)``. None imports deepinv.
"""
