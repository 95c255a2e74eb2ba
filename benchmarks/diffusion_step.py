"""One training step of a diffusion model: our loop beside two peers' trainers, on the same network and batch size.

    pip install -r benchmarks/requirements.txt    (into an environment that has the project)
    python -m benchmarks.diffusion_step digits
    python -m benchmarks.diffusion_step emoji

The first peer is https://github.com/lucidrains/denoising-diffusion-pytorch: its ``GaussianDiffusion`` and ``Trainer`` as
they are installed, with the PNG files that it reads, its ``DataLoader`` and one worker for each core, Adam and
``ema_pytorch`` as they come. The second is https://github.com/huggingface/diffusers: the loop of its example
``examples/unconditional_image_generation/train_unconditional.py``, written again here in its structure: torchvision's
transforms of each picture in the main process, ``DDPMScheduler.add_noise``, mean squared error of the noise, AdamW,
schedule, ``EMAModel`` and accelerate with the example's settings. Its pictures are opened and in memory, which is in its
favour; its progress bar, trackers and checkpoints are left out. Both read the loss back at each step.

The same on all sides are the network, an ``nn.Module`` of ours that the peers hold in a wrapper and that is told nothing but
the time, the training pictures, the batch size and the number of threads. Ours is ``gencore.diffusion.train`` as the command
line runs it: times, noise, conditions, learning rate schedule, clipped gradients, moving average of the weights and loss
window included.

Each loop runs in a process of its own, in short blocks that take turns, because machines are rarely idle. Ours has the
allocator setting of our command line, the peers' have none, as they come; lines "with our memory" show what they would be
with it. Reported are the median over rounds of the ratio of processor times within a round, where the worker processes of the
first peer are not counted, and the ratio of the best wall clocks, where they are: they take turns with it on the same
cores. The last lines say how much of the rate of a large
product of matrices, which takes its turn too, each side reaches. The last results stand in ``diffusion_step.txt``.
"""

import argparse
import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.turns import Apart, Times, best, in_turns, report
from gencore import diffusion
from gencore.diffusion import DiffusionRecipe
from gencore.diffusion.recipes import flow_digits, flow_emoji
from gencore.diffusion.sampling import build
from gencore.training.device import describe_hardware

ENDLESS = dict(images=10**9, checkpoint_every=10**9, batch_size=64)
RECIPES = {"digits": replace(flow_digits(), **ENDLESS), "emoji": replace(flow_emoji(), **ENDLESS)}
TIMES = 1000  # of both peers' processes; our networks are told a time in [0, 1]
SIDE = 2048  # of the matrices


def ours(recipe: DiffusionRecipe) -> Iterator[object]:
    """Train by our loop, yielding after each block of ``recipe.log_every`` images."""
    return diffusion.train(recipe, device="cpu")


def lucidrains(recipe: DiffusionRecipe, pictures: str) -> Iterator[None]:
    """Train by the ``Trainer`` on a folder of pictures, yielding after each block of ``recipe.log_every`` images."""
    from denoising_diffusion_pytorch import GaussianDiffusion, Trainer

    class Wrapped(nn.Module):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network, self.self_condition = network, False
            self.channels = self.out_dim = recipe.network.channels

        def forward(self, x: Tensor, time: Tensor, x_self_cond: None = None) -> Tensor:
            return self.network(x, time / TIMES)

    with tempfile.TemporaryDirectory() as results:
        trainer = Trainer(
            GaussianDiffusion(Wrapped(build(recipe).model), image_size=recipe.network.size, timesteps=TIMES),
            pictures,
            train_batch_size=recipe.batch_size,
            augment_horizontal_flip=recipe.mirror,
            train_lr=recipe.optimiser.lr,
            train_num_steps=0,
            save_and_sample_every=10**9,
            results_folder=results,
            amp=recipe.precision == "bf16",
            mixed_precision_type="bf16",
            calculate_fid=False,
        )
        while True:
            trainer.train_num_steps += recipe.log_every // recipe.batch_size
            with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
                trainer.train()  # goes on where it stood; draws a progress bar
            yield


def diffusers(recipe: DiffusionRecipe) -> Iterator[float]:
    """Train by the example's loop, yielding after each block of ``recipe.log_every`` images."""
    from accelerate import Accelerator
    from diffusers import DDPMScheduler
    from diffusers.optimization import get_scheduler
    from diffusers.training_utils import EMAModel
    from torchvision import transforms

    size, channels = recipe.network.size, recipe.network.channels
    augmentations = transforms.Compose(
        [
            transforms.Resize(size, interpolation=transforms.InterpolationMode.BILINEAR),
            transforms.CenterCrop(size),
            transforms.RandomHorizontalFlip() if recipe.mirror else transforms.Lambda(lambda x: x),
            transforms.ToTensor(),
            transforms.Normalize([0.5], [0.5]),
        ]
    )

    class Pictures(torch.utils.data.Dataset):
        def __init__(self) -> None:
            self.pictures = list(as_pictures(recipe))

        def __len__(self) -> int:
            return len(self.pictures)

        def __getitem__(self, index: int) -> dict[str, Tensor]:
            return {"input": augmentations(self.pictures[index].convert("RGB" if channels == 3 else "L"))}

    accelerator = Accelerator(mixed_precision="bf16" if recipe.precision == "bf16" else "no")
    model = build(recipe).model
    averaged = EMAModel(model.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)
    scheduler = DDPMScheduler(num_train_timesteps=TIMES, beta_schedule="linear", prediction_type="epsilon")
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8)
    loader = torch.utils.data.DataLoader(Pictures(), batch_size=recipe.batch_size, shuffle=True, num_workers=0)
    steps = recipe.images // recipe.batch_size
    rate = get_scheduler("cosine", optimizer=optimiser, num_warmup_steps=500, num_training_steps=steps)
    model, optimiser, loader, rate = accelerator.prepare(model, optimiser, loader, rate)
    step = 0
    while True:
        model.train()
        for batch in loader:
            clean = batch["input"]
            noise = torch.randn(clean.shape, dtype=clean.dtype, device=clean.device)
            times = torch.randint(0, scheduler.config.num_train_timesteps, (len(clean),), device=clean.device).long()
            noisy = scheduler.add_noise(clean, noise, times)
            with accelerator.accumulate(model):
                loss = mse_loss(model(noisy, times / TIMES).float(), noise.float())
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimiser.step()
                rate.step()
                optimiser.zero_grad()
            if accelerator.sync_gradients:
                averaged.step(model.parameters())
                step += 1
            number = loss.detach().item()
            if step * recipe.batch_size % recipe.log_every == 0:
                yield number


def product(steps: int) -> Iterator[Tensor]:
    """Multiply two large matrices, yielding after each block of so many products."""
    a, b = torch.randn(2, SIDE, SIDE)
    while True:
        for _ in range(steps):
            c = a @ b
        yield c


def as_pictures(recipe: DiffusionRecipe) -> Iterator[Image.Image]:
    """Return the training pictures as a peer would find them in files."""
    for image in recipe.data.load("train").images:
        yield Image.fromarray(image.permute(1, 2, 0).squeeze(2).numpy())


def operations(recipe: DiffusionRecipe) -> int:
    """Return the floating-point operations of the network in one step, forward and backward, as PyTorch counts them."""
    network = build(recipe).model
    with FlopCounterMode(display=False) as counter:
        network(torch.randn(recipe.batch_size, *recipe.network.shape), torch.rand(recipe.batch_size)).sum().backward()
    return counter.get_total_flops()


def report_shares(times: Times, flops: int) -> None:
    """Print the rate of each loop, and its share of the rate of the product, by best wall clocks."""
    ceiling = 2 * SIDE**3 / best(times, "product") / 1e6
    print(f"a product of {SIDE}x{SIDE} matrices in fp32: {ceiling:.0f} GFLOP/s; a step has {flops / 1e9:.1f} GFLOP")
    for name in times:
        if name != "product":
            rate = flops / best(times, name) / 1e6
            print(f"{name}: {rate:.0f} GFLOP/s, {rate / ceiling:.0%} of that")


def has_bf16() -> bool:
    """Whether the processor has instructions for bf16; without them it is emulated, and slow."""
    try:
        return "avx512_bf16" in Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return False


def main() -> None:
    """Time the loops in turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=RECIPES)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=16, help="steps in a block")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    os.environ["ACCELERATE_USE_CPU"] = "1"
    recipe = RECIPES[options.network]
    recipe = replace(recipe, log_every=options.steps * recipe.batch_size)
    half = replace(recipe, precision="bf16")

    with tempfile.TemporaryDirectory() as pictures:
        for number, picture in enumerate(as_pictures(recipe)):
            picture.save(Path(pictures) / f"{number:05d}.png")

        def apart(keep_memory, loop, *arguments):
            return Apart(options.threads, keep_memory, loop, *arguments)

        loops = {
            "ours fp32": apart(True, ours, recipe),
            "lucidrains fp32": apart(False, lucidrains, recipe, pictures),
            "diffusers fp32": apart(False, diffusers, recipe),
            "lucidrains fp32, our memory": apart(True, lucidrains, recipe, pictures),
            "diffusers fp32, our memory": apart(True, diffusers, recipe),
        }
        if has_bf16():
            loops |= {
                "ours bf16": apart(True, ours, half),
                "lucidrains bf16": apart(False, lucidrains, half, pictures),
                "diffusers bf16": apart(False, diffusers, half),
            }
        loops["product"] = apart(True, product, options.steps)
        times = in_turns(loops, options.steps, options.rounds, pause=0.5)
        for loop in loops.values():
            loop.close()

    parameters, config = sum(p.numel() for p in build(recipe).model.parameters()), recipe.network
    torch.set_num_threads(options.threads)
    peers = ", ".join(f"{name} {version(name)}" for name in ("denoising-diffusion-pytorch", "diffusers", "accelerate"))
    print(f"{describe_hardware(torch.device('cpu'))}; torch {torch.__version__}, {peers}")
    print(
        f"{options.network}: {config.size}x{config.size}, width {config.unet.width}, {parameters:,} parameters, "
        f"batch {recipe.batch_size}; {options.rounds} rounds of {options.steps} steps each"
    )
    pairs = [("ours fp32", name) for name in loops if "fp32" in name and name != "ours fp32"]
    if has_bf16():
        pairs += [("ours bf16", name) for name in loops if name.startswith(("lucidrains", "diffusers")) and "," not in name]
    report(times, pairs)
    report_shares(times, operations(recipe))
    if not has_bf16():
        print("bf16 was not timed: this processor has no instructions for it")


if __name__ == "__main__":
    main()
