"""One training step of a GAN: our loop beside that of PyTorch's DCGAN example, on the same networks and the same batches.

    OMP_NUM_THREADS=1 python -m benchmarks.gan_step

The peer is https://github.com/pytorch/examples/blob/main/dcgan/main.py, whose loop is written again here in its structure:
real and generated batch each forward and backward through the discriminator, generated images made once, both optimisers
``torch.optim.Adam`` as it comes, five numbers read back at each step. Its networks are replaced by ours, and with them
sigmoid and binary cross-entropy by their sum on logits; its data loader by our batches from memory, which is in its favour.
It offers no bf16; beside our bf16 stands what it would be under plain autocast.

Ours is ``gencore.gan.train`` as the command line runs it, moving average of the weights and loss window included.

Both run in one process with the same allocator setting, in short blocks that take turns, because machines are rarely
idle. Reported are the median over rounds of the ratio of processor times within a round, and the ratio of the best wall
clocks. Needs nothing but the project. The last result stands in ``gan_step.txt``.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import nn

from benchmarks.turns import in_turns, report
from gencore import gan
from gencore.data import Batches, Digits
from gencore.gan.recipes import Adam, GANRecipe
from gencore.networks.dcgan import DCGAN
from gencore.training.device import autocast, describe_hardware, keep_freed_memory

RECIPE = GANRecipe(
    data=Digits(),
    network=DCGAN(size=28, channels=1, latent=64, width=64),
    optimiser=Adam(decay=0.0),
    images=10**9,
    checkpoint_every=10**9,
)


def ours(recipe: GANRecipe) -> Iterator[object]:
    """Train by our loop, yielding after each block of ``recipe.log_every`` images."""
    return gan.train(recipe, device="cpu")


def peer(recipe: GANRecipe) -> Iterator[dict[str, float]]:
    """Train by the example's loop, yielding after each block of ``recipe.log_every`` images."""
    batches = iter(Batches(recipe.data.load("train"), recipe.batch_size, recipe.seed))
    generator, discriminator = gan.build(recipe)
    adam = recipe.optimiser
    betas = adam.beta1, adam.beta2
    of_d = torch.optim.Adam(discriminator.parameters(), lr=adam.discriminator_lr, betas=betas)
    of_g = torch.optim.Adam(generator.parameters(), lr=adam.generator_lr, betas=betas)
    criterion, device = nn.BCEWithLogitsLoss(), torch.device("cpu")
    for step, batch in enumerate(batches, start=1):
        discriminator.zero_grad()
        label = torch.full((recipe.batch_size,), 1.0)
        with autocast(device, recipe.precision):
            output = discriminator(batch.x)
            loss_real = criterion(output, label)
        loss_real.backward()
        verdict_real = output.mean().item()

        noise = torch.randn(recipe.batch_size, recipe.network.latent)
        with autocast(device, recipe.precision):
            fake = generator(noise)
            label.fill_(0.0)
            output = discriminator(fake.detach())
            loss_fake = criterion(output, label)
        loss_fake.backward()
        verdict_fake = output.mean().item()
        of_d.step()

        generator.zero_grad()
        label.fill_(1.0)
        with autocast(device, recipe.precision):
            output = discriminator(fake)
            loss_g = criterion(output, label)
        loss_g.backward()
        of_g.step()
        numbers = (loss_real + loss_fake).item(), loss_g.item(), verdict_real, verdict_fake, output.mean().item()
        if step * recipe.batch_size % recipe.log_every == 0:
            yield dict(zip(("d", "g", "real", "fake", "fake again"), numbers, strict=True))


def main() -> None:
    """Time the four loops in turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=8, help="steps in a block")
    parser.add_argument("--rounds", type=int, default=25)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()

    recipe = replace(RECIPE, log_every=options.steps * RECIPE.batch_size)
    half = replace(recipe, precision="bf16")
    loops = {"ours fp32": ours(recipe), "peer fp32": peer(recipe), "ours bf16": ours(half), "peer bf16": peer(half)}
    times = in_turns(loops, options.steps, options.rounds)

    network = recipe.network
    print(f"{describe_hardware(torch.device('cpu'))}; torch {torch.__version__}")
    print(
        f"{network.size}x{network.size}, width {network.width}, batch {recipe.batch_size}; "
        f"{options.rounds} rounds of {options.steps} steps each"
    )
    report(times, [("ours fp32", "peer fp32"), ("ours bf16", "peer fp32"), ("ours bf16", "peer bf16")])


if __name__ == "__main__":
    main()
