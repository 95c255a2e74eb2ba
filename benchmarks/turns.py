"""Time loops against each other: short blocks that take turns, because machines are rarely idle."""

import statistics
import time
from collections.abc import Iterator, Mapping

Times = dict[str, list[tuple[float, float]]]


def in_turns(loops: Mapping[str, Iterator[object]], steps: int, rounds: int) -> Times:
    """Advance each loop by one block a round, in turns, and time it; a first round warms up.

    Parameters
    ----------
    loops : mapping of str to iterator
        Each yields after a block of ``steps`` steps.
    steps, rounds : int
        Steps in a block, and blocks that count.

    Returns
    -------
    dict
        For each loop and round, milliseconds a step: wall clock and processor.
    """
    times: Times = {name: [] for name in loops}
    for round_number in range(-1, rounds):
        for name, loop in loops.items():
            wall, cores = time.perf_counter(), time.process_time()
            next(loop)
            spent = time.perf_counter() - wall, time.process_time() - cores
            if round_number >= 0:
                times[name].append(tuple(1000 * each / steps for each in spent))
    return times


def compare(times: Times, ours: str, theirs: str) -> tuple[float, float]:
    """Return how many times as fast one loop is as another.

    By the median over rounds of the ratio of processor times within a round, and by the ratio of the best wall clocks.
    """
    ratio = statistics.median(b[1] / a[1] for a, b in zip(times[ours], times[theirs], strict=True))
    return ratio, min(each[0] for each in times[theirs]) / min(each[0] for each in times[ours])


def report(times: Times, pairs: list[tuple[str, str]]) -> None:
    """Print the table, and a line for each pair of loops that are compared."""
    print(f"{'':12}{'ms a step, processor':>24}{'best wall clock':>18}")
    for name, spent in times.items():
        print(f"{name:12}{statistics.median(each[1] for each in spent):24.1f}{min(each[0] for each in spent):18.1f}")
    for ours, theirs in pairs:
        ratio, best = compare(times, ours, theirs)
        print(f"{ours} is {ratio:.2f} times as fast as {theirs} (best wall clocks: {best:.2f})")
