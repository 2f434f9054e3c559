"""Laws of the operators as numbers, and the weighted data term of a blur against a dense solution.

For every kind of operator the worst case of its rows in `tests/laws/operator_table.py`: the gap of the adjoint, and the
residual of the prox's optimality with weights over a factor of a hundred and one value in ten unmeasured. The bounds of
the tests: 1e-6 and 1e-12 for the adjoint, 1e-6 for the prox. Then one prox of ``1/2 |A x - y|_W^2`` for a 3x3 blur of
8x8 pixels: largest error against the dense solution, of this project's term on its own and on deepinv's operator, and
of deepinv's ``L2(sigma=map)``.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch

from physrestore.deepinv_host import load_deepinv
from physrestore.fidelity.weighted import WeightedL2
from physrestore.operators.adapt import Adapted
from physrestore.operators.blur import Blur
from tests.laws import operator_laws as laws
from tests.laws.operator_table import BLURS, COMPOSED, DIAGONALS, MOSAICS, REDUCTIONS, WARPS, Case, random, uniform

KINDS = {
    "mosaics": MOSAICS,
    "blurs": BLURS,
    "reductions": REDUCTIONS,
    "warps": WARPS,
    "diagonals": DIAGONALS,
    "compositions": COMPOSED,
}
DTYPES = (torch.float32, torch.float64)
GAMMA = 3.0


def run() -> None:
    """Print both tables."""
    operators()
    weighted_blur()


def operators() -> None:
    """Worst adjoint gap and prox residual of every kind."""
    print(f"{'kind':14}{'cases':>6}{'adjoint f32':>14}{'f64':>10}{'prox f32':>12}{'f64':>10}   worst prox")
    for kind, cases in KINDS.items():
        worst: dict[tuple[str, torch.dtype], tuple[float, str]] = defaultdict(lambda: (0.0, ""))
        for case in cases:
            for dtype in DTYPES:
                for law, value in (("adjoint", _adjoint(case, dtype)), ("prox", _prox(case, dtype))):
                    worst[law, dtype] = max(worst[law, dtype], (value, case.name))
        cells = [worst[law, dtype][0] for law in ("adjoint", "prox") for dtype in DTYPES]
        row = "{:14.1e}{:10.1e}{:12.1e}{:10.1e}".format(*cells)
        print(f"{kind:14}{len(cases):6}{row}   {worst['prox', torch.float32][1]}", flush=True)


def weighted_blur() -> None:
    """Largest error of a prox against the dense solution."""
    dinv: Any = load_deepinv()
    shape, kernel = (1, 1, 8, 8), torch.ones(1, 1, 3, 3, dtype=torch.float64) / 9
    stock = dinv.physics.Blur(kernel, padding="circular")
    sigma = 0.1 + uniform(shape, 3)
    y, z = stock.A(uniform(shape, 1)) + sigma * random(shape, 4), uniform(shape, 2)
    matrix, w = laws.dense(Adapted(stock), shape), sigma.flatten() ** -2
    normal = matrix.T @ (w[:, None] * matrix) + torch.eye(64, dtype=torch.float64)
    exact = torch.linalg.solve(normal, matrix.T @ (w * y.flatten()) + z.flatten())
    rows = {
        "WeightedL2, our Blur": WeightedL2(sigma**-2).prox(z, y, Blur(kernel)),
        "the same in float32": WeightedL2(sigma**-2).prox(z.float(), y.float(), Blur(kernel.float())),
        "WeightedL2, deepinv's Blur": WeightedL2(sigma**-2).prox(z, y, stock),
        "deepinv L2(sigma=map), its Blur": dinv.optim.L2(sigma=sigma).prox(z, y, stock),
    }
    print(f"\n{'weighted prox of a blur':34}largest error (solution up to {float(exact.abs().max()):.2f})")
    for name, x in rows.items():
        print(f"{name:34}{float((x.double().flatten() - exact).abs().max()):.1e}")


def _adjoint(case: Case, dtype: torch.dtype) -> float:
    return laws.adjoint_gap(case.make(), case.shape, dtype)


def _prox(case: Case, dtype: torch.dtype) -> float:
    operator = case.make()
    z, y, weights = laws.data(operator, case.shape, dtype)
    return laws.prox_residual(operator, z, y, weights, GAMMA)
