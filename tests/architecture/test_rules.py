"""Rules of the house that no linter knows."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shared_data import ROOT

PACKAGES = ("noise_models", "physrestore")

# Loading any of these can run code from a file, or evaluates text.
BANNED_CALLS = {
    "pickle.load", "pickle.loads", "torch.load", "yaml.load", "eval", "exec", "load_state_dict_from_url",
    "extractall", "marshal.loads", "shelve.open", "joblib.load",
}  # fmt: skip


def modules() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


# Of these the last part of a dotted name is enough; `module.eval()` of torch is no evaluation of text.
BANNED_METHODS = {"load_state_dict_from_url", "extractall"}


def called_names(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            last = name.rsplit(".", 1)[-1]
            yield (last if last in BANNED_METHODS else name), node


def violations(source: str) -> list[str]:
    found = []
    for name, node in called_names(ast.parse(source)):
        if name in BANNED_CALLS:
            found.append(f"line {node.lineno}: {name}")
        if any(k.arg == "allow_pickle" and ast.unparse(k.value) != "False" for k in node.keywords):
            found.append(f"line {node.lineno}: allow_pickle")
        if any(k.arg == "weights_only" and ast.unparse(k.value) != "True" for k in node.keywords):
            found.append(f"line {node.lineno}: weights_only")
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_loads_code(path: Path) -> None:
    assert violations(path.read_text()) == []


@pytest.mark.parametrize(
    "planted", ["torch.load(p)", "np.load(p, allow_pickle=True)", "x = eval(t)", "a.b.extractall()"]
)
def test_the_rule_sees_a_planted_violation(planted: str) -> None:
    assert violations(planted)


# torch.nn draws initial weights from the global state alone: networks are built inside `torch.random.fork_rng`.
BUILDS_NETWORKS = {"physrestore/training/fit.py", "physrestore/selfsup/folder.py"}


def test_global_random_state_is_never_used() -> None:
    pattern = re.compile(r"np\.random\.(seed|rand|randn|normal|poisson)\(|torch\.manual_seed|random\.seed")
    guilty = {path.relative_to(ROOT).as_posix(): path.read_text() for path in modules()}
    guilty = {name: text for name, text in guilty.items() if pattern.search(text)}
    assert set(guilty) == BUILDS_NETWORKS
    assert all("fork_rng" in text for text in guilty.values())


HEAVY = ("deepinv", "torchvision", "kornia", "matplotlib")


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import noise_models", HEAVY),
        ("import noise_models.calibration.calibrate, noise_models.simulate", HEAVY),
        ("import physrestore.pipeline, physrestore.batch", HEAVY),
        ("import physrestore.cli", (*HEAVY, "torch", "scipy")),
    ],
)
def test_imports_stay_light(statement: str, absent: tuple[str, ...]) -> None:
    code = f"import sys; {statement}; print([name for name in {absent!r} if name in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_no_committed_file_names_this_machine_or_a_registry() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    # Written so that this file does not match itself.
    folders = "|".join(f"/{name}/" for name in ("work", "farm", "root")) + r"|/home/\w"
    registries = r"pypi\.org|files\.pythonhosted|/opt/(wheels|pypi)"
    pattern = re.compile(f"({folders}|{registries})")
    guilty = []
    for name in listed.splitlines():
        path = ROOT / name
        if path.suffix in {".png", ".safetensors", ".npz"} or not path.is_file():
            continue
        if pattern.search(path.read_text(errors="replace")):
            guilty.append(name)
    assert guilty == []
