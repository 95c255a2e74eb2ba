"""Time loops against each other: short blocks that take turns, because machines are rarely idle."""

import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator, Mapping

import torch

from gencore.training.device import keep_freed_memory

Times = dict[str, list[tuple[float, float]]]


class Apart:
    """A loop in a process of its own, because a process has one allocator and one pool of threads for all.

    Parameters
    ----------
    threads : int
        Threads of the process.
    keep_memory : bool
        Whether its allocator is set as our command line sets it (`keep_freed_memory`), or left as glibc comes.
    loop : callable
        A function of a module, which returns the iterator.
    *arguments
        What it is called with there; they must be such as can be pickled.
    """

    def __init__(self, threads: int, keep_memory: bool, loop: Callable[..., Iterator[object]], *arguments: object) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, threads, keep_memory, loop, arguments))
        self._process.start()
        theirs.close()  # it has its own copy; once that is closed too, waiting for an answer ends in an error

    def advance(self) -> tuple[float, float]:
        """Advance the loop by one block, and return seconds measured there: wall clock and processor."""
        self._pipe.send(None)
        return self._pipe.recv()

    def close(self) -> None:
        """Let the process end."""
        self._pipe.close()
        self._process.join()


def in_turns(loops: Mapping[str, Iterator[object] | Apart], steps: int, rounds: int, pause: float = 0.0) -> Times:
    """Advance each loop by one block a round, in turns, and time it; a first round warms up.

    Parameters
    ----------
    loops : mapping of str to iterator or Apart
        Each yields after a block of ``steps`` steps.
    steps, rounds : int
        Steps in a block, and blocks that count.
    pause : float
        Seconds after each block: workers that a loop has started may still prepare what it will ask for next.

    Returns
    -------
    dict
        For each loop and round, milliseconds a step: wall clock and processor.
    """
    times: Times = {name: [] for name in loops}
    for round_number in range(-1, rounds):
        for name, loop in loops.items():
            spent = loop.advance() if isinstance(loop, Apart) else _advance(loop)
            time.sleep(pause)
            if round_number >= 0:
                times[name].append(tuple(1000 * each / steps for each in spent))
    return times


def compare(times: Times, ours: str, theirs: str) -> tuple[float, float]:
    """Return how many times as fast one loop is as another.

    By the median over rounds of the ratio of processor times within a round, and by the ratio of the best wall clocks.
    """
    ratio = statistics.median(b[1] / a[1] for a, b in zip(times[ours], times[theirs], strict=True))
    return ratio, best(times, theirs) / best(times, ours)


def best(times: Times, name: str) -> float:
    """Return the best wall clock of a loop, milliseconds a step."""
    return min(each[0] for each in times[name])


def report(times: Times, pairs: list[tuple[str, str]], step: str = "step") -> None:
    """Print the table, and a line for each pair of loops that are compared; ``step`` is what a time is of."""
    width = max(12, *(len(name) + 2 for name in times))
    print(f"{'':{width}}{f'ms a {step}, processor':>24}{'best wall clock':>18}")
    for name, spent in times.items():
        print(f"{name:{width}}{statistics.median(each[1] for each in spent):24.1f}{best(times, name):18.1f}")
    for ours, theirs in pairs:
        ratio, wall = compare(times, ours, theirs)
        print(f"{ours} is {ratio:.2f} times as fast as {theirs} (best wall clocks: {wall:.2f})")


def _advance(loop: Iterator[object]) -> tuple[float, float]:
    wall, cores = time.perf_counter(), time.process_time()
    next(loop)
    return time.perf_counter() - wall, time.process_time() - cores


def _serve(pipe, threads: int, keep_memory: bool, loop: Callable[..., Iterator[object]], arguments: tuple) -> None:
    """Advance a loop by a block whenever asked to, until the other end of the pipe is closed."""
    torch.set_num_threads(threads)
    if keep_memory:
        keep_freed_memory()
    blocks = loop(*arguments)
    while True:
        try:
            pipe.recv()
        except EOFError:
            return
        pipe.send(_advance(blocks))
