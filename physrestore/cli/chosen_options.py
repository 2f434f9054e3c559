"""The words of the command line become what a method is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from physrestore.cli.blur_kernels import blur_of
from physrestore.cli.console import Exit, fail
from physrestore.cli.durations import seconds_of

if TYPE_CHECKING:
    from physrestore.contract import Options
    from physrestore.pipeline import Method


def chosen_options(
    method: Method,
    *,
    strength: float,
    prior: str | None,
    deblur: str | None,
    scale: int,
    uncertainty: bool | None,
    budget: str | None,
    device: str,
) -> Options:
    """Options as `restore` was given them; what was left open is filled in for the method.

    Raises:
        Exit: options that the method does not know, with the reason on stderr.
        PriorError, MissingPackage, WeightsError: see `physrestore.cli.prior_names.named_prior`.
    """
    from physrestore.cli.prior_names import NamedPrior, move_prior, named_prior
    from physrestore.contract import Options
    from physrestore.errors import RestoreError
    from physrestore.pipeline import Method, check_options, knows

    named = NamedPrior("") if prior is None else named_prior(prior)
    plain = deblur is None and scale == 1
    slow = method is not Method.FAST  # which is for folders: three more numbers a pixel only where they are asked for
    try:
        options = Options(
            strength=strength,
            prior=named.prior,
            prior_name=named.name if named.prior is not None else "",
            network=named.network,
            network_name=named.name if named.network is not None else "",
            blur=None if deblur is None else blur_of(deblur),
            scale=scale,
            uncertainty=slow and plain and "uncertainty" in knows(method) if uncertainty is None else uncertainty,
            budget_seconds=None if budget is None else seconds_of(budget),
            device=device,
        )
        check_options(method, options)
        move_prior(options.prior, options.torch_device)
    except (RestoreError, ValueError) as error:
        raise fail(str(error), Exit.USAGE) from error
    return options
