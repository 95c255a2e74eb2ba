"""Drawing digits: ten steps of our sampler beside fifty of DDIM in diffusers, by the same trained network.

    pip install -r benchmarks/requirements.txt    (into an environment that has the project)
    python -m benchmarks.diffusion_sample
    python -m benchmarks.diffusion_sample --judge

The peer is https://github.com/huggingface/diffusers: its ``DDIMPipeline`` with the fifty steps that it takes unless told
otherwise, and its ``DDIMScheduler`` as it comes: the linear schedule of DDPM, even steps, clean pictures held to the range
of pixels.

The network on both sides is the zoo's ``flow_digits``. It was trained on the straight line from data to noise, and the
peer asks for the noise in a picture of DDPM's process; but a denoiser for one process is a denoiser for every other, once its
input is scaled and its clock is set: equation (OV.9) of the chapter "One vector field". The wrapper does that, and hands over
the noise, by three operations on arrays of the size of the pictures. DDIM asks the network 50 times.

Ours is ``gencore.diffusion.sample`` as everyone calls it, with DPM-Solver++(2M), which asks the network once a step: 10 times.

Each side runs in a process of its own, in blocks that take turns, because machines are rarely idle; ours with the allocator
setting of our command line, the peer's without, as it comes, and once more with it. Reported are the median over rounds of the
ratio of processor times within a round, and the ratio of the best wall clocks. ``--judge`` instead draws 1,000 digits on
each side from three seeds, and compares the Fréchet distances of the digit classifier's features from those of the 1,000
held-out digits. The last results stand in ``diffusion_sample.txt``.
"""

import argparse
import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import version

import torch
from torch import Tensor, nn

from benchmarks.turns import Apart, in_turns, report
from gencore import diffusion, zoo
from gencore.data import Digits, to_uint8
from gencore.diffusion import DiffusionRecipe, Networks
from gencore.diffusion.sampling import denoiser
from gencore.metrics import DigitFeatures, frechet_distance_of
from gencore.training.device import describe_hardware, keep_freed_memory

MODEL = "flow_digits"
BLOCK = 64  # pictures drawn at once
STEPS = {"ours": 10, "diffusers": 50}
Draw = Callable[[int, int], Tensor]  # count and seed to uint8 (count, 1, 28, 28)


class Lent(nn.Module):
    """A network trained by flow matching, which answers as one that predicts the noise of a variance-preserving process.

    Parameters
    ----------
    model : tuple of Networks and DiffusionRecipe
        Of the process `Flow`.
    kept : Tensor
        For each of the other process's steps, the factor of the data, squared; that of the noise is what is left to 1.
    """

    def __init__(self, model: tuple[Networks, DiffusionRecipe], kept: Tensor) -> None:
        super().__init__()
        self.network, self.denoise = model[0].model, denoiser(model)
        alpha, sigma = kept.double().sqrt(), (1 - kept.double()).sqrt()
        # On the straight line alpha = 1 - t and sigma = t, so that their ratio is the same at t = sigma / (alpha + sigma).
        self.time, self.scale = (sigma / (alpha + sigma)).float(), (1 / (alpha + sigma)).float()  # (OV.9)

    def forward(self, x_t: Tensor, step: Tensor) -> Tensor:
        """Return the noise in pictures ``(B, C, H, W)`` at a step ``()``, int64."""
        t, x_t = self.time[step], self.scale[step] * x_t
        # Velocity is noise less data, and the picture (1 - t) data + t noise: their sum gives the noise without a division.
        return x_t + (1 - t) * self.denoise.output(x_t, t.expand(len(x_t)))


def load() -> tuple[Networks, DiffusionRecipe]:
    """Return the model that both sides draw by."""
    return diffusion.load(zoo.folder(MODEL))


def ours(steps: int) -> Draw:
    """Return our way to draw."""
    model = load()
    sampling = replace(model[1].sampling, sampler="dpm_solver", steps=steps)
    return lambda count, seed: to_uint8(diffusion.sample(model, count, seed, batch_size=BLOCK, sampling=sampling))


def diffusers(steps: int) -> Draw:
    """Return the pipeline's way to draw."""
    from diffusers import ConfigMixin, DDIMPipeline, DDIMScheduler, ModelMixin
    from diffusers.configuration_utils import register_to_config
    from diffusers.models.unets.unet_2d import UNet2DOutput

    scheduler, model = DDIMScheduler(), load()

    class Wrapped(ModelMixin, ConfigMixin):
        @register_to_config
        def __init__(self, sample_size: int = 28, in_channels: int = 1) -> None:
            super().__init__()
            self.lent = Lent(model, scheduler.alphas_cumprod)

        def forward(self, x_t: Tensor, step: Tensor) -> UNet2DOutput:
            return UNet2DOutput(sample=self.lent(x_t, step))

    pipeline = DDIMPipeline(unet=Wrapped(), scheduler=scheduler)
    pipeline.set_progress_bar_config(disable=True)

    def draw(count: int, seed: int) -> Tensor:
        generator, pieces = torch.Generator().manual_seed(seed), []
        for start in range(0, count, BLOCK):
            size = min(BLOCK, count - start)
            drawn = pipeline(batch_size=size, generator=generator, num_inference_steps=steps, output_type="pt").images
            pieces.append(to_uint8(2 * drawn - 1))
        return torch.cat(pieces)

    return draw


SIDES = {"ours": ours, "diffusers": diffusers}


def blocks(side: str, steps: int) -> Iterator[Tensor]:
    """Draw one block after another."""
    draw, seed = SIDES[side](steps), 0
    while True:
        yield draw(BLOCK, seed)
        seed += 1


def judge(seeds: int, count: int) -> None:
    """Draw from so many seeds on each side, and print the distances from held-out digits."""
    features, heldout = DigitFeatures(), Digits().load("heldout").images[:count]
    real = features(heldout)
    for side, steps in STEPS.items():
        draw = SIDES[side](steps)
        distances = [frechet_distance_of(features(draw(count, seed)), real) for seed in range(seeds)]
        mean, spread = statistics.mean(distances), statistics.stdev(distances) if seeds > 1 else math.nan
        listed = ", ".join(f"{distance:.2f}" for distance in distances)
        print(
            f"{side}, {steps} steps: Fréchet distance {mean:.2f} ± {spread:.2f} (seeds: {listed}), {count:,} digits drawn "
            f"beside {len(real):,} held out"
        )


def main() -> None:
    """Time both sides in turns and print the table, or judge what they draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--judge", action="store_true", help="compare distances instead of times")
    parser.add_argument("--seeds", type=int, default=3, help="seeds to judge")
    parser.add_argument("--count", type=int, default=1000, help="digits to judge, of each seed")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{describe_hardware(torch.device('cpu'))}; torch {torch.__version__}, diffusers {version('diffusers')}")
    if options.judge:
        keep_freed_memory()
        judge(options.seeds, options.count)
        return

    loops = {
        "ours": Apart(options.threads, True, blocks, "ours", STEPS["ours"]),
        "diffusers": Apart(options.threads, False, blocks, "diffusers", STEPS["diffusers"]),
        "diffusers, our memory": Apart(options.threads, True, blocks, "diffusers", STEPS["diffusers"]),
    }
    times = in_turns(loops, BLOCK, options.rounds)
    for loop in loops.values():
        loop.close()
    print(
        f"{MODEL}, batch {BLOCK}: ours DPM-Solver++(2M), {STEPS['ours']} evaluations of the network; diffusers DDIM, "
        f"{STEPS['diffusers']}; {options.rounds} rounds of {BLOCK} digits each"
    )
    report(times, [("ours", name) for name in loops if name != "ours"], step="digit")


if __name__ == "__main__":
    main()
