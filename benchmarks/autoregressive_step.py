"""One training step of an autoregressive model: our loop beside that of pytorch-generative, on the same functions and batches.

    python -m benchmarks.autoregressive_step

The peer is https://github.com/EugenHotaj/pytorch-generative. It is on no package index, so what is timed is our own
restatement of two things: the step of its ``Trainer`` and the way its layers compute. Nothing of it is copied.

The step: a ``DataLoader`` with a worker for each core, which turns each digit from a picture into a float tensor and draws
its pixels by ``Bernoulli(...).sample()``; gradients zeroed; binary cross-entropy of logits, summed over a picture; the norm
of the gradients, by clipping them to a length that none has; Adam as it comes; a factor on the learning rate; loss and norm
read back. Its TensorBoard lines are left out, which is in its favour.

The layers: masked convolutions set the hidden weights to zero anew at each pass, in place; gated layers pad maps on all
sides and crop what is too much; a transformer keeps its tokens as maps of channels first, turns them for each
normalisation, uses convolutions of kernel 1 for linear layers, and attends by hand: scores of all pairs, a mask filled in,
softmax, the mask filled in once more. They compute the functions of our networks, with the same parameters. So what its
networks have beyond that is not timed: a second residual sum around each block, skip connections and split vertical kernels
of the gated layers, one logit instead of two.

Ours is ``gencore.autoregressive.train`` as the command line runs it: digits from memory, binarised on arrays, learning rate
schedule, clipped gradients, fused AdamW, moving average of the weights and loss window included.

The networks: the PixelCNN of the recipe ``pixelcnn_digits``; a PixelCNN and a transformer with the sizes that the peer's
own ``reproduce`` functions train; a gated PixelCNN of the sizes that ours has if none are named. All see 28x28
black-and-white digits, pixel by pixel. Batches are smaller than the peer's, so that a step takes a fraction of a second.

Each loop runs in a process of its own, in short blocks that take turns, because machines are rarely idle; ours with the
allocator setting of our command line, the peer's without, as it comes, and once more with it; and once more with our
network, so that only the steps differ. Its worker processes are not counted in processor times, but they take their turns
on the same cores, so that wall clocks include them. What bf16 alone gains is the ratio of ours to ours; beside it stands
what the peer would be under plain autocast. Reported are the median over rounds of the ratio of processor times within a
round, the ratio of the best wall clocks, and pictures a second by these. Needs nothing but the project. The last results,
with ``--threads 2``, stand in ``autoregressive_step.txt``.
"""

import argparse
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, conv2d, gelu, layer_norm, relu
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.functional import to_tensor

from benchmarks.diffusion_step import has_bf16
from benchmarks.turns import Apart, Times, best, in_turns, report
from gencore import autoregressive
from gencore.autoregressive.recipes import AutoregressiveRecipe, pixelcnn_digits
from gencore.autoregressive.sampling import build
from gencore.networks.gated_pixelcnn import GatedPixelCNN, GatedPixelCNNNetwork, lower
from gencore.networks.image_transformer import ImageTransformer, ImageTransformerNetwork
from gencore.networks.pixelcnn import MaskedConv2d, PixelCNN, PixelCNNNetwork
from gencore.networks.symbols import Grid
from gencore.networks.transformer import Attention, Transformer
from gencore.training.device import autocast, describe_hardware

SHARED = replace(pixelcnn_digits(), precision="fp32", images=10**9, checkpoint_every=10**9)
RECIPES = {
    "PixelCNN": SHARED,
    "PixelCNN, peer's sizes": replace(SHARED, network=PixelCNN(Grid(28), width=32, depth=15)),
    "gated PixelCNN": replace(SHARED, network=GatedPixelCNN(Grid(28)), batch_size=16),
    "transformer, peer's sizes": replace(
        SHARED, network=ImageTransformer(Grid(28), Transformer(64, 8, 2, causal=True), near=1), batch_size=4
    ),
}
NONE_IS_LONGER = 1e50  # of gradients


class Restated(nn.Module):
    """A network of ours, computed in the peer's way.

    Parameters
    ----------
    network : Module
        Whose parameters are used.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network


class RemaskedPixelCNN(Restated):
    """Our PixelCNN: hidden weights are set to zero anew at each pass."""

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(B, 2, H, W)`` for pictures ``(B, 1, H, W)`` of zeros and ones."""
        network = self.network
        h = self._look(network.stem, network.embed(x))  # (B, width, H, W)
        for block in network.blocks:
            r = conv2d(relu(h), block.squeeze.weight, block.squeeze.bias)
            r = self._look(block.look, relu(r))
            h = h + conv2d(relu(r), block.widen.weight, block.widen.bias)
        h = conv2d(relu(h), network.mix.weight, network.mix.bias)
        return conv2d(relu(h), network.head.weight, network.head.bias)

    def _look(self, layer: MaskedConv2d, h: Tensor) -> Tensor:
        with torch.no_grad():
            layer.weight.mul_(layer.mask)
        return conv2d(h, layer.weight, layer.bias, padding=layer.padding)


class CroppedGatedPixelCNN(Restated):
    """Our gated PixelCNN: maps are padded on all sides, and what is too much is cropped."""

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(B, 2, H, W)`` for pictures ``(B, 1, H, W)`` of zeros and ones."""
        network = self.network
        x = network.embed(x)
        v = self._above(network.vertical, x)  # (B, width, H, W)
        h = self._beside(network.horizontal, x, network.horizontal.kernel_size[1]) + lower(v)  # before its place
        for layer in network.layers:
            seen = self._above(layer.vertical, v)  # (B, 2 width, H, W)
            handed = conv2d(lower(seen), layer.hand_over.weight)
            beside = self._beside(layer.horizontal, h, layer.horizontal.kernel_size[1] - 1)  # up to its place
            v = v + self._gate(seen)
            h = h + conv2d(self._gate(beside + handed), layer.out.weight, layer.out.bias)
        h = conv2d(relu(h), network.mix.weight, network.mix.bias)
        return conv2d(relu(h), network.head.weight, network.head.bias)

    def _above(self, conv: nn.Conv2d, h: Tensor) -> Tensor:
        high, wide = conv.kernel_size
        return conv2d(h, conv.weight, conv.bias, padding=(high - 1, wide // 2))[:, :, : h.shape[2]]

    def _beside(self, conv: nn.Conv2d, h: Tensor, padding: int) -> Tensor:
        return conv2d(h, conv.weight, conv.bias, padding=(0, padding))[..., : h.shape[3]]

    def _gate(self, h: Tensor) -> Tensor:
        half = h.shape[1] // 2
        return torch.tanh(h[:, :half]) * torch.sigmoid(h[:, half:])


class MapTransformer(Restated):
    """Our image transformer: tokens stay maps, and attention is computed by hand."""

    def __init__(self, network: ImageTransformerNetwork) -> None:
        super().__init__(network)
        places = network.config.grid.size**2
        self.register_buffer("seen", torch.ones(places, places).tril(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(B, 2, H, W)`` for pictures ``(B, 1, H, W)`` of zeros and ones."""
        network = self.network
        h = self._before(network.table(x[:, 0].long()).movedim(3, 1))  # (B, width, H, W)
        h = h + (network.rows + network.columns).movedim(2, 0)
        for block in network.body.blocks:
            h = h + self._attend(block.attention, self._normalise(block.norm1, h))
            hidden = gelu(self._linear(block.mlp[0], self._normalise(block.norm2, h)))
            h = h + self._linear(block.mlp[2], hidden)
        return self._linear(network.head, self._normalise(network.body.norm, h))

    def _before(self, h: Tensor) -> Tensor:
        near, above, beside = self.network.config.near, self.network.above, self.network.beside
        rows = conv2d(h, above.weight, above.bias, padding=near)[:, :, : h.shape[2], :]
        line = conv2d(h.flatten(2)[:, :, None], beside.weight, beside.bias, padding=(0, near))
        return rows + line[..., : h.shape[2] * h.shape[3]].reshape(rows.shape)

    def _linear(self, layer: nn.Linear, h: Tensor) -> Tensor:
        return conv2d(h, layer.weight[:, :, None, None], layer.bias)

    def _normalise(self, norm: nn.LayerNorm, h: Tensor) -> Tensor:
        turned = layer_norm(h.permute(0, 2, 3, 1), norm.normalized_shape, norm.weight, norm.bias, norm.eps)
        return turned.permute(0, 3, 1, 2)

    def _attend(self, attention: Attention, h: Tensor) -> Tensor:
        q = self._linear(attention.query, h)
        k, v = self._linear(attention.key_value, h).chunk(2, dim=1)  # (B, width, H, W) each
        q, k, v = (each.flatten(2).unflatten(1, (attention.heads, -1)).transpose(2, 3) for each in (q, k, v))
        hidden = self.seen == 0  # (N, N)
        scores = (q @ k.transpose(2, 3)) / q.shape[3] ** 0.5  # (B, heads, N, N)
        weights = scores.masked_fill(hidden, -torch.inf).softmax(dim=3).masked_fill(hidden, 0)
        gathered = (weights @ v).transpose(2, 3).reshape(h.shape)
        return self._linear(attention.out, gathered)


RESTATED = {
    PixelCNNNetwork: RemaskedPixelCNN,
    GatedPixelCNNNetwork: CroppedGatedPixelCNN,
    ImageTransformerNetwork: MapTransformer,
}


class Pictures(Dataset):
    """Digits as the peer finds them: pictures, turned into tensors and binarised one by one."""

    def __init__(self, recipe: AutoregressiveRecipe) -> None:
        data = recipe.data.load("train")
        self.images, self.labels = data.images[:, 0].numpy(), data.labels.tolist()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        grey = to_tensor(Image.fromarray(self.images[index]))  # (1, H, W)
        return torch.distributions.Bernoulli(probs=grey).sample(), self.labels[index]


def ours(recipe: AutoregressiveRecipe) -> Iterator[object]:
    """Train by our loop, yielding after each block of ``recipe.log_every`` images."""
    return autoregressive.train(recipe, device="cpu")


def peer(recipe: AutoregressiveRecipe, restated: bool, workers: int) -> Iterator[dict[str, float]]:
    """Train by the peer's step, yielding after each block of ``recipe.log_every`` images.

    Parameters
    ----------
    recipe : AutoregressiveRecipe
        Network, data, batch size and precision.
    restated : bool
        Whether the network computes in the peer's way, or in ours.
    workers : int
        Processes that prepare batches.
    """
    network, device = build(recipe).model, torch.device("cpu")
    model = RESTATED[type(network)](network) if restated else network
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.MultiplicativeLR(optimiser, lr_lambda=lambda _: 0.999977)
    loader = DataLoader(Pictures(recipe), recipe.batch_size, shuffle=True, num_workers=workers)
    step = 0
    while True:
        for x, y in loader:
            model.train()
            x, y = x.to(device), y.to(device)
            optimiser.zero_grad()
            with autocast(device, recipe.precision):
                loss = surprise(x, model(x if restated else x.long()))
            loss.backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), NONE_IS_LONGER)
            optimiser.step()
            schedule.step()
            numbers = {"loss": loss.item(), "norm": norm.item()}
            step += 1
            if step * recipe.batch_size % recipe.log_every == 0:
                yield numbers


def surprise(x: Tensor, logits: Tensor) -> Tensor:
    """Return the peer's loss, nats a picture, for pictures ``(B, 1, H, W)`` and logits of both values ``(B, 2, H, W)``."""
    white = (logits[:, 1] - logits[:, 0]).flatten(1)  # (B, N), the one logit that it works with
    return binary_cross_entropy_with_logits(white, x.flatten(1), reduction="none").sum(1).mean()


def through(
    recipes: list[AutoregressiveRecipe],
    threads: list[int],
    blocks: int,
    loop: Callable[..., Iterator[object]],
    *arguments: object,
) -> Iterator[object]:
    """Advance one loop after another by so many blocks each, for each number of threads and each recipe.

    So a process serves for all of them, and starts only once.
    """
    for count in threads:
        torch.set_num_threads(count)
        for recipe in recipes:
            yield from islice(loop(recipe, *arguments), blocks)


def report_rates(times: Times) -> None:
    """Print pictures a second, by best wall clocks."""
    print("pictures a second, by best wall clock: " + "; ".join(f"{name} {1000 / best(times, name):.0f}" for name in times))


def main() -> None:
    """Time the loops in turns, for each network and number of threads, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", help=f"of {', '.join(RECIPES)}; by default all")
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1])
    parser.add_argument("--steps", type=int, default=2, help="steps in a block")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if unknown := set(options.networks) - set(RECIPES):
        parser.error(f"{', '.join(sorted(unknown))}: not one of {', '.join(RECIPES)}")
    names = options.networks or list(RECIPES)
    recipes = [replace(RECIPES[name], log_every=options.steps * RECIPES[name].batch_size) for name in names]
    halves = [replace(recipe, precision="bf16") for recipe in recipes]

    def apart(keep_memory, some, *loop):
        return Apart(options.threads[0], keep_memory, through, some, options.threads, options.rounds + 1, *loop)

    workers = os.cpu_count()
    loops = {
        "ours fp32": apart(True, recipes, ours),
        "peer fp32": apart(False, recipes, peer, True, workers),
        "peer fp32, our memory": apart(True, recipes, peer, True, workers),
        "peer fp32, our memory and network": apart(True, recipes, peer, False, workers),
    }
    if has_bf16():
        loops |= {
            "ours bf16": apart(True, halves, ours),
            "peer bf16, our memory": apart(True, halves, peer, True, workers),
        }
    pairs = [("ours fp32", other) for other in loops if "peer fp32" in other]
    if has_bf16():
        pairs += [("ours bf16", other) for other in ("peer fp32", "peer bf16, our memory", "ours fp32")]

    for threads in options.threads:
        torch.set_num_threads(threads)
        for name, recipe in zip(names, recipes, strict=True):
            times = in_turns(loops, recipe.log_every, options.rounds, pause=0.1)
            parameters = sum(p.numel() for p in build(recipe).model.parameters())
            print(f"{describe_hardware(torch.device('cpu'))}; torch {torch.__version__}")
            print(
                f"{name}: 28x28, {parameters:,} parameters, batch {recipe.batch_size}; "
                f"{options.rounds} rounds of {options.steps} steps each"
            )
            report(times, pairs, step="picture")
            report_rates(times)
    for loop in loops.values():
        loop.close()
    if not has_bf16():
        print("bf16 was not timed: this processor has no instructions for it")


if __name__ == "__main__":
    main()
