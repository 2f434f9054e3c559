"""Operators, data terms, solvers and their parameters: all tables of plug-and-play restoration, or some.

--part laws: worst residuals of the operators' laws, and the weighted data term of a blur against a dense solution.
--part demosaic: PSNR and cost against published peers, without noise and at a camera's noise, Bayer and X-Trans.
--part parameters: strength chosen without the truth against an oracle grid, 5 noise levels x 3 operators.
--part cost: pnp against classic, the solver's own share, the exact likelihood and its approximations.

--images N takes fewer pictures. The parts are benchmarks of their own, with more options: solvers_laws,
solvers_demosaic, solver_parameters, solvers_cost. Everything takes hours on one core.
"""

from __future__ import annotations

import argparse

import torch

from tests.benchmarks import solver_parameters, solvers_cost, solvers_demosaic, solvers_laws

PARTS = ("laws", "demosaic", "parameters", "cost")


def run(arguments: list[str]) -> None:
    """Print the tables that were asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks solvers")
    parser.add_argument("--part", action="append", choices=PARTS, help="may be given several times; without: all")
    parser.add_argument("--images", type=int, default=6)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    for part in options.part or PARTS:
        print(f"\n== {part}", flush=True)
        if part == "laws":
            solvers_laws.run()
        elif part == "demosaic":
            solvers_demosaic.run(["--images", str(options.images)])
        elif part == "parameters":
            solver_parameters.against_oracle(solver_parameters.PICTURES[: options.images])
        else:
            solvers_cost.run()
