"""Reading ahead and writing behind: order, bounds, overlap, and what an early end leaves."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import pytest

from physrestore.overlap import overlapped

WAIT_S = 20.0  # for what must happen at once; reached only when it never does


class Log:
    """What happened, in order; safe among threads."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._changed = threading.Condition()

    def __call__(self, line: str) -> None:
        with self._changed:
            self.lines.append(line)
            self._changed.notify_all()

    def wait_for(self, line: str) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: line in self.lines, WAIT_S)


def test_results_keep_their_order_whatever_takes_long() -> None:
    slow = {0: 0.05, 3: 0.05}

    def pause(n: int) -> int:
        time.sleep(slow.get(n, 0.0))
        return n

    made = overlapped(range(6), read=pause, work=pause, write=pause)
    assert list(made) == list(range(6))
    assert list(overlapped([], read=pause, work=pause, write=pause)) == []


def test_the_next_is_read_and_the_last_written_during_the_work() -> None:
    log = Log()

    def work(n: int) -> int:
        if n == 1:  # neither would come if it had to wait for this work
            assert log.wait_for("read 2")
            assert log.wait_for("wrote 0")
        return n

    def write(n: int) -> int:
        log(f"wrote {n}")
        return n

    def read(n: int) -> int:
        log(f"read {n}")
        return n

    assert list(overlapped(range(3), read=read, work=work, write=write)) == [0, 1, 2]


class Frame:
    """Something large."""


def most_alive(run: Callable[..., Iterator[int]]) -> int:
    """The most frames at a time of seven, each step of which takes a moment."""
    alive: weakref.WeakSet[Frame] = weakref.WeakSet()
    most = [0]

    def read(_: int) -> Frame:
        frame = Frame()
        alive.add(frame)
        most[0] = max(most[0], len(alive))
        return frame

    def work(frame: Frame) -> Frame:
        time.sleep(0.005)
        return frame

    def write(frame: Frame) -> int:
        time.sleep(0.01)
        return id(frame)

    for _ in run(range(7), read=read, work=work, write=write):
        gc.collect()
    return most[0]


def test_one_frame_waits_on_each_side() -> None:
    assert most_alive(overlapped) <= 3

    def greedy(items: range, *, read: Callable, work: Callable, write: Callable) -> Iterator[int]:  # type: ignore[type-arg]
        return iter([write(work(frame)) for frame in [read(item) for item in items]])

    assert most_alive(greedy) == 7


def threads_of_steps() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith(("read_", "write_"))]


@pytest.mark.parametrize("bad", ["read", "work", "write"])
def test_what_a_step_raises_ends_all_and_leaves_no_thread(bad: str) -> None:
    def step(name: str) -> Callable[[int], int]:
        def take(n: int) -> int:
            if name == bad and n == 2:
                raise ZeroDivisionError(name)
            return n

        return take

    seen: list[int] = []
    with pytest.raises(ZeroDivisionError, match=bad):
        seen.extend(overlapped(range(9), read=step("read"), work=step("work"), write=step("write")))
    assert threads_of_steps() == []


def test_an_early_end_finishes_the_writing_and_begins_nothing() -> None:
    log = Log()

    def write(n: int) -> int:
        time.sleep(0.02)
        log(f"wrote {n}")
        return n

    def read(n: int) -> int:
        log(f"read {n}")
        return n

    def work(n: int) -> int:
        log(f"worked {n}")
        if n == 2:  # as Ctrl-C does
            raise KeyboardInterrupt
        return n

    with pytest.raises(KeyboardInterrupt):
        list(overlapped(range(9), read=read, work=work, write=write))
    assert "wrote 1" in log.lines
    assert "read 4" not in log.lines

    log.lines.clear()
    made = overlapped(range(9), read=read, work=lambda n: n, write=write)
    assert next(made) == 0
    begun = [line for line in log.lines if line.startswith("read")]
    made.close()  # type: ignore[attr-defined]
    assert threads_of_steps() == []
    assert len([line for line in log.lines if line.startswith("read")]) <= len(begun) + 1
    assert "read 5" not in log.lines
