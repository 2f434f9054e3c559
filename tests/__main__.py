"""The one check command, for users and CI alike: ``python -m tests`` (``--fast`` leaves out the slow tests)."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

CHECKS = {
    "format": ["ruff", "format", "--check", "--quiet", "."],
    "lint": ["ruff", "check", "--quiet", "."],
    "types": ["mypy"],
    "imports": ["lint-imports", "--no-cache"],
}


def main(arguments: list[str]) -> int:
    """Run every check, then the tests; the exit code is 0 only if all passed."""
    fast = "--fast" in arguments
    bin_folder = Path(sys.executable).parent
    # One thread a worker: two workers on two cores gain nothing from four threads.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"}
    failed = []
    for name, command in CHECKS.items():
        start = time.perf_counter()
        code = subprocess.run(command, cwd=ROOT, env=environment).returncode
        print(f"{name}: {'ok' if code == 0 else 'FAILED'} ({time.perf_counter() - start:.0f} s)", flush=True)
        if code:
            failed.append(name)
    pytest = [sys.executable, "-m", "pytest", "-q", "-n", "auto", "--dist", "worksteal"]
    pytest += ["-m", "not slow"] if fast else []
    pytest += [argument for argument in arguments if argument != "--fast"]
    if subprocess.run(pytest, cwd=ROOT, env=environment).returncode:
        failed.append("tests")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
