"""From latent draws to pictures, from pictures to latent moments, and from a folder to networks."""

import copy
import math
from pathlib import Path

import torch
from torch import Tensor, nn

from gencore.data import ImageSet, to_float
from gencore.errors import InputError
from gencore.metrics import psnr, ssim
from gencore.networks.autoencoder import Autoencoder
from gencore.networks.hierarchical import Hierarchical, HierarchicalVAE
from gencore.networks.ladder import Ladder, LadderVAE
from gencore.networks.patchgan import PatchDiscriminator
from gencore.networks.quantiser import perplexity
from gencore.networks.two_stage import TwoStage, TwoStageVAE
from gencore.networks.vae import VAE
from gencore.networks.vqvae import VQ, VQVAE
from gencore.training import checkpoint, rng
from gencore.vae.likelihoods import Gaussian
from gencore.vae.objectives import ELBO, IWAE, Networks, log_weights
from gencore.vae.recipes import VAERecipe


def build(recipe: VAERecipe) -> Networks:
    """Build the network with the weights that the recipe's seed draws."""
    kinds = {Autoencoder: VAE, Ladder: LadderVAE, Hierarchical: HierarchicalVAE, VQ: VQVAE, TwoStage: TwoStageVAE}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return Networks(kinds[type(recipe.network)](recipe.network))


def build_discriminator(recipe: VAERecipe) -> PatchDiscriminator:
    """Build the recipe's adversary with the weights that the recipe's seed draws."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return PatchDiscriminator(recipe.adversary.network)


def load(folder: Path | str, first_stage: nn.Module | None = None) -> tuple[Networks, VAERecipe]:
    """Load a trained model from a zoo folder or from the newest checkpoint of a run.

    Parameters
    ----------
    folder : Path or str
        ``gencore.zoo.folder(name)``, or a run's folder.
    first_stage : Module, optional
        For a model of two stages: the network of the model that ``recipe.first_stage`` names.

    Returns
    -------
    networks : Networks
        The averaged (EMA) network in evaluation mode, float32, without gradients.
    recipe : VAERecipe
        The recipe it was trained by.

    Raises
    ------
    InputError
        If a file is missing, damaged, or does not fit the recipe, or if the first stage is missing or another.
    """
    networks, recipe = checkpoint.load_model(folder, VAERecipe, build)
    if isinstance(networks.model, TwoStageVAE):
        if first_stage is None:
            raise InputError(f"{folder}: needs its first stage, the zoo's {recipe.first_stage}; pass it as first_stage")
        networks.model.adopt(first_stage)
    return networks, recipe


@torch.inference_mode()
def sample(
    model: tuple[Networks, VAERecipe],
    count: int,
    seed: int,
    first: int = 0,
    batch_size: int = 250,
    cond: Tensor | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """Draw pictures: latent variables from the prior, then the middle of each pixel's distribution.

    Parameters
    ----------
    model : tuple of Networks and VAERecipe
        What `load` returns.
    count, seed : int
        How many images, and from which series; image ``i`` depends on ``(seed, i)`` only.
    first : int
        Number of the first image in the series.
    batch_size : int
        Images computed at once.
    cond : Tensor, optional
        Classes, int64 ``(count,)``, for a conditional model; by default all in turn, image ``i`` of the series of class
        ``i`` modulo their number.
    temperature : float
        Factor of the latent noise; below 1 the pictures are more alike.

    Returns
    -------
    Tensor
        float32 ``(count, C, H, W)`` in [-1, 1], on the CPU.

    Raises
    ------
    InputError
        If the model has no prior to draw from, as a VQ-VAE.
    """
    (network,), recipe = model
    _check_has_prior(recipe)
    device, pictures = next(network.parameters()).device, []
    if cond is None and is_conditional(recipe):
        cond = torch.arange(first, first + count) % recipe.network.classes
    for start in range(0, count, batch_size):
        eps = latent_noise(network.latent_shapes, min(batch_size, count - start), seed, first + start)
        classes = None if cond is None else cond[start : start + batch_size].to(device)
        params = network.generate(tuple(temperature * each.to(device) for each in eps), classes)
        pictures.append(recipe.objective.likelihood.location(params).cpu())
    return torch.cat(pictures)


@torch.inference_mode()
def reconstruct(
    model: tuple[Networks, VAERecipe], images: Tensor, batch_size: int = 250, cond: Tensor | None = None
) -> Tensor:
    """Return what the model makes of images: encoded to the posterior's mean, or to codes, and decoded.

    Parameters
    ----------
    model : tuple of Networks and VAERecipe
        What `load` returns.
    images : Tensor
        uint8 or float in [-1, 1], ``(N, C, H, W)``.
    batch_size : int
        Images computed at once.
    cond : Tensor, optional
        Classes, int64 ``(N,)``, for a conditional model.

    Returns
    -------
    Tensor
        float32 ``(N, C, H, W)`` in [-1, 1], on the CPU.
    """
    (network,), recipe = model
    device = next(network.parameters()).device
    images = to_float(images) if images.dtype == torch.uint8 else images
    pictures = []
    for first in range(0, len(images), batch_size):
        x = images[first : first + batch_size].to(device)
        classes = None if cond is None else cond[first : first + batch_size].to(device)
        if isinstance(network, VQVAE):
            pictures.append(network(x, classes)[0].float().clamp(-1, 1).cpu())
        else:
            eps = tuple(x.new_zeros(len(x), *shape) for shape in network.latent_shapes)
            pictures.append(recipe.objective.likelihood.location(network(x, eps, classes)[0]).cpu())
    return torch.cat(pictures)


def heldout_pairs(model: tuple[Networks, VAERecipe], count: int) -> tuple[Tensor, Tensor]:
    """Return held-out images, uint8 ``(count, C, H, W)``, evenly spread over the set, and what the model makes of them."""
    _, recipe = model
    data = recipe.data.load("heldout")
    data = data.subset(torch.linspace(0, len(data) - 1, count).long())
    return data.images, reconstruct(model, data.images, cond=data.labels if is_conditional(recipe) else None)


@torch.inference_mode()
def log_likelihood(
    model: tuple[Networks, VAERecipe],
    data: ImageSet,
    draws: int,
    seed: int = 0,
    at_once: int = 5_000,
) -> tuple[Tensor, Tensor]:
    """Bound the log-probability of each image from below, by importance weighting.

    Parameters
    ----------
    model : tuple of Networks and VAERecipe
        What `load` returns.
    data : ImageSet
        Images; if the recipe binarises, each is binarised once, in a way that follows from its place in the set.
    draws : int
        K: latent draws for each image. The bound rises with K, and reaches log p(x) in the limit.
    seed : int
        Which draws.
    at_once : int
        Latent draws computed at a time, over all images of a batch.

    Returns
    -------
    bounds : Tensor
        float64 ``(N,)``, in nats: log of the mean of K importance weights.
    elbos : Tensor
        float64 ``(N,)``: mean of their logarithms, which estimates the evidence lower bound.
    """
    (network,), recipe = model
    _check_has_prior(recipe)
    device, bounds, elbos = next(network.parameters()).device, [], []
    each = min(draws, at_once)  # draws of an image at a time
    batch = max(1, at_once // each)
    for first in range(0, len(data), batch):
        x = to_float(data.images[first : first + batch])
        if recipe.augmentation is not None:
            u = [torch.rand(x.shape[1:], generator=rng.generator(seed, first + i, "binarise")) for i in range(len(x))]
            x = recipe.augmentation(x, torch.stack(u))
        cond = data.labels[first : first + batch].to(device) if is_conditional(recipe) else None
        x, weights = x.to(device), []
        for start in range(0, draws, each):
            rows = min(each, draws - start)
            eps = tuple(
                rng.normal((len(x) * rows, *shape), seed, first, f"draw {start} level {level}").to(device)
                for level, shape in enumerate(network.latent_shapes)
            )
            weights.append(log_weights(network, recipe.objective.likelihood, x, cond, eps, rows).double().cpu())
        stacked = torch.cat(weights, 1)  # (B, K)
        bounds.append(stacked.logsumexp(1) - math.log(draws))
        elbos.append(stacked.mean(1))
    return torch.cat(bounds), torch.cat(elbos)


def first_stage(recipe: VAERecipe) -> str | None:
    """Name of the zoo's model that `train` is to be given as ``first_stage``, or None."""
    return recipe.first_stage


def draws(recipe: VAERecipe) -> bool:
    """Whether models of this recipe draw pictures: those with a prior over their latent variables do."""
    return isinstance(recipe.objective, (ELBO, IWAE))


@torch.inference_mode()
def measure(model: tuple[Networks, VAERecipe]) -> list[dict]:
    """Measure what a card says beside the judgement on pictures: reconstructions, codes, and bounds on likelihood.

    All are taken on held-out images. Latent draws are cheap on a ladder only: 5,000 for each image, as is usual in
    papers; other networks get 100, for the first thousand.
    """
    (network,), recipe = model
    data = recipe.data.load("heldout")
    some = data.subset(torch.arange(min(len(data), 1_000)))
    cond = some.labels if is_conditional(recipe) else None
    x, pictures = to_float(some.images), reconstruct(model, some.images, cond=cond)
    found = [("peak signal-to-noise ratio of reconstructions, dB", some, psnr(pictures, x).mean().item())]
    found.append(("structural similarity of reconstructions", some, ssim(pictures, x).mean().item()))
    if isinstance(network, VQVAE):
        codes = network.encode(x, cond)  # (N, ...), one grid or several
        used = perplexity(codes.flatten().bincount(minlength=recipe.network.quantiser.size).float()).item()
        for name, letters in (("their number", recipe.network.quantiser.size), ("their frequencies", used)):
            found.append((f"bits of an image's codes by {name}", some, codes[0].numel() * math.log2(letters)))
    if isinstance(network, VAE) and not recipe.network.flat:
        spread = network.encode(x, cond)[0].movedim(1, 0).flatten(1).std(1)  # (latent,)
        found += [(f"standard deviation of latent channel {i}", some, value) for i, value in enumerate(spread.tolist())]
    if draws(recipe) and not isinstance(recipe.objective.likelihood, Gaussian):
        for images, count in [(data, 5_000)] if isinstance(recipe.network, Ladder) else [(some, 100)]:
            bounds, elbos = log_likelihood(model, images, count)
            found.append(("evidence lower bound, nats", images, elbos.mean().item()))
            found.append((f"bound from {count} draws, nats", images, bounds.mean().item()))
            error = (bounds.std() / len(images) ** 0.5).item()
            found.append((f"standard error of the bound from {count} draws, nats", images, error))
    return [{"name": name, "on": images.name, "samples": len(images), "value": value} for name, images, value in found]


def parameters(model: tuple[Networks, VAERecipe]) -> int:
    """Return how many parameters it takes to draw: those on the way from the prior to a picture; all of a VQ-VAE's."""
    (network,), recipe = model
    if not draws(recipe):
        return sum(p.numel() for p in network.parameters())
    network = copy.deepcopy(network)
    weights = [*network.parameters(), *(network.first.parameters() if isinstance(network, TwoStageVAE) else ())]
    for weight in weights:
        weight.requires_grad_(True)
    eps = latent_noise(network.latent_shapes, 1, seed=0)
    cond = torch.zeros(1, dtype=torch.int64) if is_conditional(recipe) else None
    device = next(network.parameters()).device
    picture = network.generate(tuple(each.to(device) for each in eps), None if cond is None else cond.to(device))
    reached = torch.autograd.grad(picture.sum(), weights, allow_unused=True)
    return sum(p.numel() for p, gradient in zip(weights, reached, strict=True) if gradient is not None)


def latent_noise(shapes: tuple[tuple[int, ...], ...], count: int, seed: int, first: int = 0) -> tuple[Tensor, ...]:
    """Draw standard normal latent noise for each level, ``(count, *shape)``; image ``i``'s does not depend on its batch."""
    sizes = [math.prod(shape) for shape in shapes]
    rows = rng.normal_per_image(count, (sum(sizes),), seed, first).split(sizes, dim=1)
    return tuple(row.unflatten(1, shape) for row, shape in zip(rows, shapes, strict=True))


def is_conditional(recipe: VAERecipe) -> bool:
    """Whether the recipe's network is told each image's class."""
    network = recipe.network.autoencoder if isinstance(recipe.network, VQ) else recipe.network
    return getattr(network, "classes", 0) > 0


def _check_has_prior(recipe: VAERecipe) -> None:
    if not draws(recipe):
        raise InputError("this model compresses pictures and draws none: its codes have no prior yet")
