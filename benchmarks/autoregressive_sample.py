"""Drawing digits place by place: what earlier places gave is kept, beside one whole pass through the network for each place.

    python -m benchmarks.autoregressive_sample

The naive way is that of ``sample`` in https://github.com/EugenHotaj/pytorch-generative: to draw one place, the network
computes all. Ours is ``gencore.autoregressive.write``, which keeps columns of convolutions
(Ramachandran et al. 2017, https://arxiv.org/abs/1704.06001), or keys and values of attention, and so computes each place
once.

Both draw with the same networks in float32, with their first weights, since time does not depend on them, from the same
uniform numbers, in one process with the allocator setting of our command line. Each side is timed at several batch sizes,
on each number of threads, and the best of each stand against each other, timed anew in turns; the best of all times counts.
Of the naive side, only the first places are timed, and the time is scaled to all of them: each takes a whole pass, wherever
it lies.

What is drawn is compared too, at every place: there the naive way would look at the same symbols as one pass over the
finished grids does, as later ones are hidden from it; and if each symbol is what the same uniform number picks from that
pass, both ways draw the same. The places that the naive side was timed on are compared directly.

The networks: the PixelCNN of the recipe ``pixelcnn_digits``, the gated PixelCNN and the transformer of
``benchmarks.autoregressive_step``, 28x28 pixels each; and the transformer of the recipe ``transformer_binarised``, which
draws a digit as 14x14 symbols. The last results stand in ``autoregressive_sample.txt``.
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks import autoregressive_step
from gencore.autoregressive import Categorical, write
from gencore.autoregressive.recipes import transformer_binarised
from gencore.autoregressive.sampling import build
from gencore.training import rng
from gencore.training.device import describe_hardware, keep_freed_memory

RECIPES = {  # and the batch sizes that our side is timed at: as far as a minute allows
    "PixelCNN": (autoregressive_step.RECIPES["PixelCNN"], (1, 32, 256, 1024)),
    "gated PixelCNN": (autoregressive_step.RECIPES["gated PixelCNN"], (1, 32, 256)),
    "transformer": (autoregressive_step.RECIPES["transformer, peer's sizes"], (1, 16, 64)),
    "transformer, 14x14 symbols": (transformer_binarised(), (1, 16, 64)),
}
NAIVE_BATCHES = (1, 4, 16, 64)
COMPARED = 32  # pictures
PLACES = 4  # that the naive side is timed on, after one that warms up
ROUNDS = 2  # of the best against the best
Seconds = Callable[[nn.Module, int, int], float]  # of network, threads and batch size
Timed = dict[tuple[int, int], float]  # by threads and batch size, seconds a picture


def cached(network: nn.Module, u: Tensor) -> Tensor:
    """Return symbols ``(B, 1, H, W)`` for uniform numbers ``(B, 1, H, W)``, each place computed once."""
    untold = torch.zeros(len(u), 0, dtype=torch.int64)
    return write(network, Categorical(), untold, untold, u)


def naive(network: nn.Module, u: Tensor, places: int | None = None) -> Tensor:
    """Return the same by a pass through the whole network for each place; with ``places``, only so many are drawn."""
    symbols, size = torch.zeros(u.shape, dtype=torch.int64), u.shape[3]
    for place in range(u[0].numel() if places is None else places):
        row, column = divmod(place, size)
        params = network(symbols)[:, :, row, column]  # (B, levels)
        symbols[:, :, row, column] = Categorical().draw(params, u[:, :, row, column])
    return symbols


def uniform(network: nn.Module, batch: int) -> Tensor:
    """Return uniform numbers for so many pictures, ``(B, 1, H, W)``."""
    return rng.uniform_per_image(batch, network.config.grid.shape, seed=0, first=0)


def differing(network: nn.Module, symbols: Tensor, u: Tensor) -> int:
    """Return how many symbols ``(B, 1, H, W)`` are not what their numbers pick after one pass over the finished grids."""
    count = 0
    for some, numbers in zip(symbols.split(16), u.split(16), strict=True):
        params = network(some).movedim(1, 3).flatten(0, 2)  # (B H W, levels)
        count += (Categorical().draw(params, numbers.reshape(-1, 1)) != some.reshape(-1, 1)).sum().item()
    return count


def seconds_cached(network: nn.Module, threads: int, batch: int) -> float:
    """Return seconds a picture, of so many drawn at once."""
    torch.set_num_threads(threads)
    u = uniform(network, batch)
    start = time.perf_counter()
    cached(network, u)
    return (time.perf_counter() - start) / batch


def seconds_naive(network: nn.Module, threads: int, batch: int) -> float:
    """Return the same for the naive way, scaled from the first `PLACES` places to all."""
    torch.set_num_threads(threads)
    u = uniform(network, batch)
    naive(network, u, 1)
    start = time.perf_counter()
    naive(network, u, PLACES)
    return (time.perf_counter() - start) / batch * u[0].numel() / PLACES


def search(seconds: Seconds, network: nn.Module, threads: list[int], batches: list[int]) -> Timed:
    """Return seconds a picture by threads and batch size."""
    return {(count, batch): seconds(network, count, batch) for count in threads for batch in batches}


def report(side: str, timed: Timed) -> tuple[int, int]:
    """Print a line for each number of threads, and return the best threads and batch size."""
    for threads in dict.fromkeys(threads for threads, _ in timed):
        listed = "; ".join(f"{batch} {spent:#.3g}" for (count, batch), spent in timed.items() if count == threads)
        print(f"{side}, {threads} thread{'s' if threads > 1 else ''}, seconds a picture by batch size: {listed}")
    return min(timed, key=timed.get)


@torch.inference_mode()
def compare(
    name: str, network: nn.Module, threads: list[int], naive_batches: list[int], cached_batches: list[int]
) -> None:
    """Search the best of both sides, time them against each other, compare what they draw, and print it."""
    parameters, size = sum(p.numel() for p in network.parameters()), network.config.grid.size
    print(f"{name}: {size}x{size} places of {network.config.grid.levels} symbols, {parameters:,} parameters")
    sides = {"naive": (seconds_naive, naive_batches), "cached": (seconds_cached, cached_batches)}
    timed = {side: search(seconds, network, threads, batches) for side, (seconds, batches) in sides.items()}
    best = {side: report(side, timed[side]) for side in sides}
    spent = {side: timed[side][best[side]] for side in sides}
    for _ in range(ROUNDS):
        for side, (seconds, _) in sides.items():
            spent[side] = min(spent[side], seconds(network, *best[side]))
    said = [f"{side} {spent[side]:#.3g} s (batch {batch}, threads: {count})" for side, (count, batch) in best.items()]
    print(f"best of each: {', '.join(said)}: {spent['naive'] / spent['cached']:.0f} times as fast")

    u = uniform(network, COMPARED)
    symbols = cached(network, u)
    first = (naive(network, u, PLACES) != symbols).flatten(1)[:, :PLACES].sum().item()
    print(
        f"symbols that differ: {first} of {len(u) * PLACES:,} that both drew, {differing(network, symbols, u)} of "
        f"{symbols.numel():,} beside one pass over the finished grids"
    )


def main() -> None:
    """Compare both ways to draw, for each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", help=f"of: {'; '.join(RECIPES)}. By default all")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--naive-batches", type=int, nargs="+", default=NAIVE_BATCHES)
    parser.add_argument("--cached-batches", type=int, nargs="+", help="by default those that RECIPES names")
    options = parser.parse_args()
    if unknown := set(options.networks) - set(RECIPES):
        parser.error(f"{', '.join(sorted(unknown))}: not one of {', '.join(RECIPES)}")
    keep_freed_memory()
    torch.set_num_threads(max(options.threads))
    hardware = describe_hardware(torch.device("cpu"))
    print(f"{hardware} at most; torch {torch.__version__}; the naive side timed on {PLACES} places")
    for name in options.networks or RECIPES:
        recipe, batches = RECIPES[name]
        network = build(recipe).model.eval()
        compare(name, network, options.threads, options.naive_batches, options.cached_batches or batches)


if __name__ == "__main__":
    main()
