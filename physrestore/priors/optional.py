"""Packages that only some priors need, imported on use."""

from __future__ import annotations

import importlib
from types import ModuleType

from physrestore.errors import MissingPackage


def require(package: str, *, purpose: str, install: str) -> ModuleType:
    """Import a package that may be missing.

    Args:
        package: Name of the module.
        purpose: What it is needed for; completes "... needs the package".
        install: What pip is told.

    Raises:
        MissingPackage: it is not installed; the message has the line that installs it.

    >>> require("math", purpose="This example", install="nothing").__name__
    'math'
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != package.split(".")[0]:  # the package is there, something it needs is not
            raise
        raise MissingPackage(
            f"{purpose} needs the package {package}. Install it: pip install {install}", name=package
        ) from error
