"""A batch on several processes or machines, through dask.distributed: failures and resume as in the local batch.

A worker takes one file at a time, from reading to publishing. Results appear whole or not at all, so a worker that dies
costs only the time it had spent: the scheduler gives its file to another one. A file on which several workers have died
fails with a message and is not tried again. Workers must see the same files under the same paths.
"""

from __future__ import annotations

import importlib
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from noise_models.rawfile import Decoder
from physrestore.allocator import keep_freed_memory
from physrestore.batch import Outcome, Settings, Status, prepare_targets, restore_file
from physrestore.errors import MissingPackage, RestoreError
from physrestore.inputs import Job

# So many workers may die over one file before it is given up: once may be bad luck, or another's memory.
ALLOWED_DEATHS = 2


@dataclass(frozen=True)
class Workers:
    """Where to work.

    Attributes:
        count: Processes on this machine; 0: a scheduler that runs already.
        address: Of that scheduler, ``tcp://HOST:PORT``; "": none.

    >>> Workers.parse("local:4"), Workers.parse("dask://10.0.0.1:8786").address
    (Workers(count=4, address=''), 'tcp://10.0.0.1:8786')
    """

    count: int
    address: str

    @classmethod
    def parse(cls, word: str) -> Workers:
        """``local:N``, or the address of a dask scheduler, ``dask://HOST:PORT``.

        Raises:
            ValueError: anything else.
        """
        kind, _, rest = word.partition(":")
        if kind == "local" and rest.isdecimal() and int(rest) > 0:
            return cls(int(rest), "")
        if kind in ("dask", "tcp", "tls") and rest.startswith("//") and rest[2:].partition(":")[2].isdecimal():
            return cls(0, f"{'tcp' if kind == 'dask' else kind}:{rest}")
        raise ValueError(f"{word!r} names no workers. Write local:N, or dask://HOST:PORT of a running scheduler.")


def run_on_workers(
    jobs: Sequence[Job],
    settings: Settings,
    workers: Workers,
    *,
    overwrite: bool = False,
    dry_run: bool = False,
    timeout: float = 10.0,
) -> Iterator[Outcome]:
    """Work through ``jobs``; yields one outcome each, as they come in.

    Args:
        jobs: From `inputs.plan`, with absolute paths where machines differ in their working folder.
        settings: For all of them.
        workers: Where.
        overwrite: Replace results that exist already.
        dry_run: Read and choose the noise, restore and write nothing.
        timeout: How long to wait for a scheduler [s].

    Raises:
        MissingPackage: dask.distributed is not installed.
        RestoreError: no scheduler answers at the address.
    """
    prepare_targets(jobs, dry_run=dry_run)
    originals = [*(job.source for job in jobs), *settings.burst]
    with _client(workers, timeout) as client:
        threads = max(1, (os.cpu_count() or 1) // workers.count) if workers.count else 0
        futures = {
            client.submit(_work, job, settings, originals, overwrite, dry_run, threads, pure=False): job for job in jobs
        }
        yield from _outcomes(futures)


def _outcomes(futures: dict[Any, Job]) -> Iterator[Outcome]:
    distributed = _distributed()
    for future in distributed.as_completed(list(futures)):
        job = futures[future]
        error = future.exception()
        if error is None:
            yield future.result()
        elif isinstance(error, distributed.KilledWorker):
            yield _failed(
                job, f"{ALLOWED_DEATHS + 1} workers died over this file: too little memory, or a library breaks on it."
            )
        else:
            yield _failed(job, f"the worker failed: {type(error).__name__}: {error}")


def _work(
    job: Job, settings: Settings, originals: Sequence[Path], overwrite: bool, dry_run: bool, threads: int
) -> Outcome:
    """One file, in a worker."""
    import torch

    keep_freed_memory()
    if threads:
        torch.set_num_threads(threads)
    if not job.source.exists():
        return _failed(
            job, f"the worker on {socket.gethostname()} does not see {job.source}: share the folder with it."
        )
    return restore_file(job, settings, _decoder(), originals, overwrite=overwrite, dry_run=dry_run)


@cache
def _decoder() -> Decoder:
    """One decoder process per worker; it ends with the worker."""
    return Decoder().__enter__()


def _failed(job: Job, message: str) -> Outcome:
    return Outcome(job.source, job.target, Status.FAILED, message)


def _client(workers: Workers, timeout: float) -> Any:
    distributed = _distributed()
    importlib.import_module("dask").config.set(
        {"distributed.scheduler.allowed-failures": ALLOWED_DEATHS, "distributed.worker.daemon": False}
    )
    if workers.address:
        try:
            return distributed.Client(workers.address, timeout=timeout)
        except OSError as error:
            raise RestoreError(
                f"No dask scheduler answers at {workers.address}: {error}. Start `dask scheduler`."
            ) from error
    cluster = distributed.LocalCluster(
        n_workers=workers.count, threads_per_worker=1, dashboard_address=None, memory_limit=0
    )
    return _Owned(cluster, distributed.Client(cluster))


def _distributed() -> Any:
    """Dask.distributed, which has no types of its own."""
    try:
        return importlib.import_module("distributed")
    except ImportError as error:
        raise MissingPackage(
            "Several workers need dask.distributed. Install it: pip install 'physrestore[cluster]'"
        ) from error


class _Owned:
    """A client that takes its cluster with it."""

    def __init__(self, cluster: Any, client: Any) -> None:
        self.cluster, self.client = cluster, client

    def __enter__(self) -> Any:
        return self.client

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.cluster.close()
