"""Settings for all tests."""

from __future__ import annotations

import os

import torch
from hypothesis import settings

# Deterministic examples: a test that fails on one machine fails on all; new examples are searched for by hand.
settings.register_profile("project", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("project")

if os.environ.get("PYTEST_XDIST_WORKER"):
    torch.set_num_threads(1)
