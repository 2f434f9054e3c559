"""The README tells the truth about commands."""

from __future__ import annotations

from tests.shared_data import ROOT


def test_ci_runs_the_test_command_of_the_readme() -> None:
    command = (ROOT / ".ci" / "run").read_text().strip().splitlines()[-1]

    assert command in (ROOT / "README.md").read_text()
