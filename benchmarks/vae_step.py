"""One training step of a VAE: our loop beside pythae's trainer, on the same networks, loss and batch size.

    pip install -r benchmarks/requirements.txt    (into an environment that has the project)
    OMP_NUM_THREADS=1 python -m benchmarks.vae_step digits
    OMP_NUM_THREADS=1 python -m benchmarks.vae_step emoji
    OMP_NUM_THREADS=1 python -m benchmarks.vae_step emoji --held-out 64000

The peer is pythae (Chadebec et al. 2022, https://arxiv.org/abs/2206.08309): its ``VAE`` and ``BaseTrainer`` as they are
installed, called by ``train_step``, which is one pass over a data set; ours has as many images as a block has steps. Our
encoder and decoder are wrapped in its ``BaseEncoder`` and ``BaseDecoder``, and its own loss ("mse", a Gaussian likelihood
of deviation 1, plus the divergence) is the loss of both sides. Its data are float tensors in memory, cut into batches by
its ``DataLoader`` in the main process; its optimiser is Adam as it comes; it reads the loss back at each step. All that
is left as it is. It offers no bf16 on a CPU.

Ours is ``gencore.vae.train`` as the command line runs it: batches from memory, learning rate schedule, clipped gradients,
moving average of the weights and loss window included.

Both run in one process with the same allocator setting, in short blocks that take turns, because machines are rarely
idle. Reported are the median over rounds of the ratio of processor times within a round, and the ratio of the best wall
clocks. ``--held-out`` trains ours in both precisions for so many images and compares the negative ELBO on held-out ones.
The last results stand in ``vae_step.txt``.
"""

import argparse
import math
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version

import torch
from torch import Tensor

from benchmarks.turns import in_turns, report
from gencore import vae
from gencore.data import Digits, Emoji, to_float
from gencore.networks.autoencoder import Decoder, Encoder
from gencore.training.device import describe_hardware, keep_freed_memory
from gencore.vae import recipes
from gencore.vae.sampling import build, latent_noise

SHARED = dict(objective=vae.ELBO(vae.Gaussian(1.0)), images=10**9, checkpoint_every=10**9)
RECIPES = {  # the networks of vae.recipes.vae_digits and vae.recipes.kl_emoji
    "digits": vae.VAERecipe(data=Digits(), network=recipes.vae_digits().network, **SHARED),
    "emoji": vae.VAERecipe(data=Emoji(), network=recipes.kl_emoji().network, **SHARED),
}


def ours(recipe: vae.VAERecipe) -> Iterator[object]:
    """Train by our loop, yielding after each block of ``recipe.log_every`` images."""
    return vae.train(recipe, device="cpu")


def peer(recipe: vae.VAERecipe, folder: str) -> Iterator[float]:
    """Train by pythae's trainer, yielding after each block of ``recipe.log_every`` images."""
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    class WrappedEncoder(BaseEncoder):
        def __init__(self, network: Encoder) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: Tensor) -> ModelOutput:
            mean, log_std = self.network(x).chunk(2, dim=1)
            return ModelOutput(embedding=mean.flatten(1), log_covariance=2 * log_std.flatten(1))

    class WrappedDecoder(BaseDecoder):
        def __init__(self, network: Decoder) -> None:
            super().__init__()
            self.network = network

        def forward(self, z: Tensor) -> ModelOutput:
            return ModelOutput(reconstruction=self.network(z.unflatten(1, recipe.network.latent_shape)))

    network, shape = build(recipe).model, (recipe.network.channels, recipe.network.size, recipe.network.size)
    codes = math.prod(recipe.network.latent_shape)
    config = VAEConfig(input_dim=shape, latent_dim=codes, reconstruction_loss="mse")
    model = VAE(config, encoder=WrappedEncoder(network.encoder), decoder=WrappedDecoder(network.decoder))
    data = recipe.data.load("train")
    images, labels = to_float(data.images[: recipe.log_every]), data.labels[: recipe.log_every]
    settings = BaseTrainerConfig(
        output_dir=folder,
        per_device_train_batch_size=recipe.batch_size,
        learning_rate=recipe.optimiser.lr,
        keep_best_on_train=True,
        no_cuda=True,
    )
    trainer = BaseTrainer(model, BaseDataset(images, labels), training_config=settings)
    trainer.prepare_training()
    epoch = 0
    while True:
        epoch += 1
        yield trainer.train_step(epoch)


@torch.inference_mode()
def held_out_bound(model: tuple[vae.Networks, vae.VAERecipe]) -> float:
    """Return the negative ELBO of up to 1,000 held-out images in nats, computed in float32."""
    (network,), recipe = model
    x = to_float(recipe.data.load("heldout").images[:1000])
    eps = latent_noise(network.latent_shapes, len(x), seed=0)
    parts = recipe.objective(vae.Networks(network), x, None, vae.Draw(eps)).parts
    return parts["bound"].item()


def compare_precisions(recipe: vae.VAERecipe, images: int) -> None:
    """Train in float32 and in bf16 on the same batches and noise, and print both held-out bounds."""
    bounds: dict[str, float] = {}
    for precision in ("fp32", "bf16"):
        one = replace(recipe, precision=precision, images=images, log_every=images)
        for run in ours(one):
            pass
        bounds[precision] = held_out_bound((run.averaged, one))
        print(f"held-out negative ELBO after {images:,} images, {precision}: {bounds[precision]:.2f} nats")
    print(f"bf16 over fp32: {bounds['bf16'] / bounds['fp32'] - 1:+.2%}")


def main() -> None:
    """Time the three loops in turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=RECIPES)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=8, help="steps in a block")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--held-out", type=int, metavar="IMAGES", help="compare precisions after so many images instead")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    os.environ["TQDM_DISABLE"] = "1"  # pythae draws a progress bar
    recipe = RECIPES[options.network]
    if options.held_out:
        compare_precisions(recipe, options.held_out)
        return

    recipe = replace(recipe, log_every=options.steps * recipe.batch_size)
    half = replace(recipe, precision="bf16")
    with tempfile.TemporaryDirectory() as folder:
        loops = {"ours fp32": ours(recipe), "pythae fp32": peer(recipe, folder), "ours bf16": ours(half)}
        times = in_turns(loops, options.steps, options.rounds)

    network = recipe.network
    parameters = sum(p.numel() for p in build(recipe).model.parameters())
    print(f"{describe_hardware(torch.device('cpu'))}; torch {torch.__version__}, pythae {version('pythae')}")
    print(
        f"{options.network}: {network.size}x{network.size}, width {network.width}, {parameters:,} parameters, "
        f"batch {recipe.batch_size}; {options.rounds} rounds of {options.steps} steps each"
    )
    report(times, [("ours fp32", "pythae fp32"), ("ours bf16", "pythae fp32")])


if __name__ == "__main__":
    main()
