"""Three steps per item that overlap: the next one is read and the last one written while one is worked on.

Threads suffice where reading and writing wait for disks, other processes, and native code that lets others run. The
work stays in the calling thread: Ctrl-C ends it at once, where a thread could not be ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")
Made = TypeVar("Made")
Result = TypeVar("Result")


def overlapped(
    items: Iterable[Item],
    *,
    read: Callable[[Item], Loaded],
    work: Callable[[Loaded], Made],
    write: Callable[[Made], Result],
) -> Iterator[Result]:
    """Results of ``write(work(read(item)))``, in order.

    At any time no more than one item is read or waits to be worked on, one is worked on, and one is written. A result
    is handed out when its writing has ended and the work on its successor, too. Whoever stops early (by closing the
    iterator, by Ctrl-C) waits for the reading and the writing under way, not for work; nothing further is begun.

    Args:
        items: Taken one by one, in this thread, no earlier than needed.
        read: Called in a thread of its own, as is ``write``. What any of the three raises ends the iteration.
        work: Called in this thread.
        write: See ``read``.

    >>> list(overlapped([1, 2, 3], read=lambda n: 10 * n, work=lambda n: n + 1, write=str))
    ['11', '21', '31']
    """
    upcoming = iter(items)
    with ThreadPoolExecutor(1, "read") as reader, ThreadPoolExecutor(1, "write") as writer:

        def read_next() -> Future[Loaded] | None:
            return next((reader.submit(read, item) for item in upcoming), None)

        ahead, behind = read_next(), None
        while ahead is not None:
            if behind is not None and behind.done():  # told before the wait for a reading, not after it
                yield behind.result()
                behind = None
            loaded = ahead.result()
            ahead = read_next()
            made = work(loaded)
            del loaded  # what is written lets go of it, and so must this frame
            if behind is not None:
                yield behind.result()
            behind = writer.submit(write, made)
            del made
        if behind is not None:
            yield behind.result()
