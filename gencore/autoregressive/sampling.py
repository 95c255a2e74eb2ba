"""From uniform numbers to pictures, from pictures to their probability, and from a folder to networks."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from gencore.autoregressive import masked, next_scale
from gencore.autoregressive.examples import encode
from gencore.autoregressive.likelihoods import Categorical, LogisticMixture
from gencore.autoregressive.masked import MaskedSymbols
from gencore.autoregressive.objectives import Draw, Networks
from gencore.autoregressive.recipes import AutoregressiveRecipe, Sampling
from gencore.data import ImageSet, Shapes, to_float
from gencore.data.told import ask, asked_for, caption_length, check_conditions, conditions, untold, with_mirrored
from gencore.errors import InputError
from gencore.metrics.adherence import measure_adherence
from gencore.networks.coded import Coded, CodedNetwork
from gencore.networks.first_stage import pass_in
from gencore.networks.gated_pixelcnn import GatedPixelCNN, GatedPixelCNNNetwork
from gencore.networks.image_transformer import ImageTransformer, ImageTransformerNetwork
from gencore.networks.multiscale import MultiScaleQuantiser
from gencore.networks.pixel_rnn import PixelRNN, PixelRNNNetwork
from gencore.networks.pixelcnn import PixelCNN, PixelCNNNetwork
from gencore.networks.pixelcnn_pp import PixelCNNPP, PixelCNNPPNetwork
from gencore.networks.symbols import Grid
from gencore.networks.var import VAR, VARNetwork
from gencore.training import checkpoint, rng

MEASURED = 1  # the series of pictures that is measured, as by ``gencore evaluate``


def build(recipe: AutoregressiveRecipe) -> Networks:
    """Build the network with the weights that the recipe's seed draws."""
    kinds = {
        PixelRNN: PixelRNNNetwork,
        PixelCNN: PixelCNNNetwork,
        PixelCNNPP: PixelCNNPPNetwork,
        GatedPixelCNN: GatedPixelCNNNetwork,
        ImageTransformer: ImageTransformerNetwork,
        Coded: CodedNetwork,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return Networks(kinds[type(recipe.network)](recipe.network))


def load(folder: Path | str, first_stage: nn.Module | None = None) -> tuple[Networks, AutoregressiveRecipe]:
    """Load a trained model from a zoo folder or from the newest checkpoint of a run.

    Parameters
    ----------
    folder : Path or str
        ``gencore.zoo.folder(name)``, or a run's folder.
    first_stage : Module, optional
        For a model that writes codes: the network of the model that ``recipe.first_stage`` names.

    Returns
    -------
    networks : Networks
        The averaged (EMA) network in evaluation mode, float32, without gradients.
    recipe : AutoregressiveRecipe
        The recipe it was trained by.

    Raises
    ------
    InputError
        If a file is missing, damaged, or does not fit the recipe, or if the first stage is missing or another.
    """
    networks, recipe = checkpoint.load_model(folder, AutoregressiveRecipe, build)
    pass_in(networks.model, first_stage, recipe.first_stage)
    return networks, recipe


@torch.inference_mode()
def sample(
    model: tuple[Networks, AutoregressiveRecipe],
    count: int,
    seed: int,
    first: int = 0,
    batch_size: int = 250,
    cond: Tensor | None = None,
    sampling: Sampling | None = None,
    given: Tensor | None = None,
    known: Tensor | None = None,
) -> Tensor:
    """Draw pictures symbol by symbol; image ``i`` depends on ``(seed, i)``, its condition and what is given only.

    Parameters
    ----------
    model : tuple of Networks and AutoregressiveRecipe
        What `load` returns.
    count, seed : int
        How many images, and from which series.
    first : int
        Number of the first image in the series.
    batch_size : int
        Images computed at once.
    cond : Tensor, optional
        What each picture is to show, int64 ``(count, len(recipe.told))``; a condition's number of values means *not told*.
        By default what training pictures show, drawn from them at random.
    sampling : Sampling, optional
        How to draw; by default ``recipe.sampling``.
    given : Tensor, optional
        Symbols, int64 ``(count, C, H, W)``, of which those are kept that are known.
    known : Tensor, optional
        bool ``(H, W)``. What is drawn is a draw from the conditional distribution only if the known places come first, row by
        row: what is known further on is kept, but the places before do not know of it.

    Returns
    -------
    Tensor
        float32 ``(count, C, H, W)`` in [-1, 1], on the CPU.

    Raises
    ------
    InputError
        If conditions or given symbols do not fit.
    """
    pieces = []
    for symbols in draw_symbols(model, count, seed, first, batch_size, cond, sampling, given, known):
        pieces.append(to_pictures(model, symbols).cpu())
    return torch.cat(pieces) if pieces else torch.empty(0, model[1].data.channels, model[1].data.size, model[1].data.size)


def draw_symbols(
    model: tuple[Networks, AutoregressiveRecipe],
    count: int,
    seed: int,
    first: int = 0,
    batch_size: int = 250,
    cond: Tensor | None = None,
    sampling: Sampling | None = None,
    given: Tensor | None = None,
    known: Tensor | None = None,
) -> Iterator[Tensor]:
    """Yield symbols ``(B, C, H, W)``, batch by batch; parameters as for `sample`."""
    (network,), recipe = model
    how, grid = recipe.sampling if sampling is None else sampling, network.config.grid
    likelihood = getattr(recipe.objective, "likelihood", None)
    if isinstance(likelihood, LogisticMixture) and (how.guidance, how.top_p) != (1, 1):
        raise InputError(f"sampling: guidance {how.guidance}, top_p {how.top_p}: must be 1 for a mixture, whose numbers are no logits")
    device = next(network.parameters()).device
    cond = asked_for(recipe, count, seed, first) if cond is None else cond
    check_conditions(recipe, cond, count)
    if given is not None and isinstance(recipe.network, Coded) and isinstance(recipe.network.writer, VAR):
        raise InputError("given: codes of several scales cannot be given by their places")
    check_given(grid, given, known, count)
    cond = with_mirrored(recipe, cond, torch.zeros(count, dtype=torch.int64)).to(device)
    for start in range(0, count, batch_size):
        told = cond[start : start + batch_size]
        u = rng.uniform_per_image(len(told), _draws(recipe, how), seed, first + start).to(device)
        begun = None if given is None else given[start : start + batch_size].to(device)
        yield _draw(network, recipe, told, untold(recipe, told), u, how, begun, known)


def _draws(recipe: AutoregressiveRecipe, how: Sampling) -> tuple[int, ...]:
    """Return the shape of the uniform numbers that one picture takes."""
    grid = recipe.network.grid
    if isinstance(recipe.objective, MaskedSymbols):
        return how.steps, 2, grid.size**2
    if isinstance(recipe.network, Coded) and isinstance(recipe.network.writer, VAR):
        return recipe.network.shape[2:]
    return recipe.objective.likelihood.draws(grid), grid.size, grid.size


def _draw(
    network: nn.Module,
    recipe: AutoregressiveRecipe,
    cond: Tensor,
    hidden: Tensor,
    u: Tensor,
    how: Sampling,
    given: Tensor | None,
    known: Tensor | None,
) -> Tensor:
    """Draw the symbols of a batch in the way of its network."""
    guidance = how.guidance if cond.shape[1] else 1.0
    if isinstance(recipe.objective, MaskedSymbols):
        writer = network.writer
        begun = None if given is None else given.masked_fill(~known.to(given.device), writer.config.mask)
        for symbols in masked.draw(writer, cond, u, how.disturb, guidance, hidden, begun, how.temperature, how.top_p):
            pass
        return symbols
    if isinstance(network, CodedNetwork) and isinstance(network.writer, VARNetwork):
        codes = next_scale.draw(
            network.writer, network.first.quantiser, cond, u, how.temperature, how.top_p, guidance, hidden
        )
        return codes[:, None, None]
    return write(network, recipe.objective.likelihood, cond, hidden, u, how, given, known)


def write(
    network: nn.Module,
    likelihood: Categorical | LogisticMixture,
    cond: Tensor,
    hidden: Tensor,
    u: Tensor,
    how: Sampling = Sampling(),
    given: Tensor | None = None,
    known: Tensor | None = None,
    watch: Callable[[Tensor], None] | None = None,
) -> Tensor:
    """Write a batch of grids, row by row, each place once.

    Parameters
    ----------
    network : Module
        One that has ``incremental``.
    likelihood : Categorical or LogisticMixture
        The distribution of a place.
    cond, hidden : Tensor
        Conditions ``(B, K)``, and the same not told.
    u : Tensor
        Uniform numbers ``(B, draws, H, W)``.
    how : Sampling
        Temperature and guidance.
    given, known : Tensor, optional
        As for `sample`.
    watch : callable, optional
        Is shown the grid after each place, written so far; the same tensor each time.

    Returns
    -------
    Tensor
        int64 ``(B, C, H, W)``.
    """
    grid, guided = network.config.grid, how.guidance != 1 and cond.shape[1] > 0
    symbols = torch.zeros(len(u), *grid.shape, dtype=torch.int64, device=u.device)
    seen = symbols.repeat(2, 1, 1, 1) if guided else symbols  # what the network looks at: guided, everything twice
    at = network.incremental(seen, torch.cat([cond, hidden]) if guided else cond)
    for row in range(grid.size):
        for column in range(grid.size):
            for _ in range(likelihood.rounds(grid)):
                params = at(row, column)
                if guided:
                    told, not_told = params.chunk(2)
                    params = not_told + how.guidance * (told - not_told)
                symbol = likelihood.draw(params, u[:, :, row, column], how.temperature, how.top_p)  # (B, C)
                if known is not None and known[row, column]:
                    symbol = given[:, :, row, column]
                symbols[:, :, row, column] = symbol
                if guided:
                    seen[:, :, row, column] = symbol.repeat(2, 1)
            if watch:
                watch(symbols)
    return symbols


def to_pictures(model: tuple[Networks, AutoregressiveRecipe], symbols: Tensor) -> Tensor:
    """Return pictures, float32 ``(B, C, H, W)`` in [-1, 1], of symbols."""
    (network,), recipe = model
    return network.decode(symbols).clamp(-1, 1) if isinstance(network, CodedNetwork) else recipe.pixels.read(symbols)


def to_symbols(model: tuple[Networks, AutoregressiveRecipe], data: ImageSet, seed: int = 0, first: int = 0) -> Tensor:
    """Return the symbols of images; if the recipe binarises, each is binarised once, by its place in the set.

    Parameters
    ----------
    model : tuple of Networks and AutoregressiveRecipe
        What `load` returns.
    data : ImageSet
        The images.
    seed, first : int
        Which binarisation, and the place of the first image.
    """
    (network,), recipe = model
    x = to_float(data.images)
    if isinstance(network, CodedNetwork):
        return encode(network, x.to(network.device)).cpu()
    if recipe.augmentation is not None:
        u = [torch.rand(x.shape[1:], generator=rng.generator(seed, first + i, "binarise")) for i in range(len(x))]
        x = recipe.augmentation(x, torch.stack(u))
    return recipe.pixels.write(x)


@torch.inference_mode()
def log_likelihood(
    model: tuple[Networks, AutoregressiveRecipe], data: ImageSet, seed: int = 0, batch_size: int = 250, told: bool = True
) -> Tensor:
    """Return the exact log-probability of each image's symbols, in nats, float64 ``(N,)``.

    Parameters
    ----------
    model : tuple of Networks and AutoregressiveRecipe
        What `load` returns.
    data : ImageSet
        Images; if the recipe binarises, each is binarised once, in a way that follows from the seed and its place in the set.
    seed : int
        Which binarisation.
    batch_size : int
        Images computed at once.
    told : bool
        Whether the network is told what the recipe tells.

    Raises
    ------
    InputError
        If the network learned from hidden symbols: it says nothing of whole images.
    """
    (network,), recipe = model
    if isinstance(recipe.objective, MaskedSymbols):
        raise InputError("objective: guesses of hidden symbols are no probability of an image; see hidden_nats")
    found = []
    for _, symbols, cond in _batches(model, data, seed, batch_size, told):
        log_p = recipe.objective.likelihood.log_prob(network(symbols, cond), symbols)  # (B, H, W)
        found.append(log_p.double().flatten(1).sum(1).cpu())
    return torch.cat(found)


@torch.inference_mode()
def hidden_nats(
    model: tuple[Networks, AutoregressiveRecipe], data: ImageSet, seed: int = 0, batch_size: int = 250, told: bool = True
) -> Tensor:
    """Return how surprising hidden symbols are on average, in nats, float64 ``(N,)``; parameters as for `log_likelihood`.

    Of each image so many are hidden as training would hide of it; the seed and its place in the set say which.
    """
    (network,), recipe = model
    found = []
    for first, symbols, cond in _batches(model, data, seed, batch_size, told):
        u = rng.uniform_per_image(len(symbols), (1 + symbols[0].numel(),), seed, first).to(symbols.device)
        for symbol, of_it, row in zip(symbols, cond, u, strict=True):
            draw = Draw(None, row[:1], row[None, 1:])
            found.append(recipe.objective(Networks(network), symbol[None], of_it[None], draw).parts["nats"].cpu())
    return torch.stack(found).double()


def _batches(
    model: tuple[Networks, AutoregressiveRecipe], data: ImageSet, seed: int, batch_size: int, told: bool
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield the place of a batch's first image, symbols ``(B, C, H, W)`` and conditions ``(B, K)``, told or not."""
    (network,), recipe = model
    device = next(network.parameters()).device
    table = with_mirrored(recipe, conditions(recipe, data), torch.zeros(len(data), dtype=torch.int64))
    table = table if told else untold(recipe, table)
    for first in range(0, len(data), batch_size):
        piece = torch.arange(len(data))[first : first + batch_size]
        yield first, to_symbols(model, data.subset(piece), seed, first).to(device), table[piece].to(device)


def measure(model: tuple[Networks, AutoregressiveRecipe]) -> list[dict]:
    """Measure what a card says beside the judgement on pictures: how probable held-out images are.

    And first, of models that are told captions of shapes, whether they show what is asked for.
    """
    (network,), recipe = model
    data, found = recipe.data.load("heldout"), []
    coded = isinstance(network, CodedNetwork)
    for told in (True, False) if recipe.told and recipe.drop else (True,):
        if isinstance(recipe.objective, MaskedSymbols):
            what, nats = "hidden codes, nats each", hidden_nats(model, data, told=told)
        else:
            what = "codes, nats" if coded else "negative log-likelihood, nats"
            nats = -log_likelihood(model, data, told=told)
        what += "" if told else ", nothing told"
        found.append((what, nats.mean().item()))
        found.append((f"standard error of: {what}", (nats.std() / len(nats) ** 0.5).item()))
        if not coded:
            bits = nats.mean().item() / math.log(2) / data.images[0].numel()
            found.append((f"bits per dimension{'' if told else ', nothing told'}", bits))
    found = [{"name": name, "on": data.name, "samples": len(data), "value": value} for name, value in found]
    if caption_length(recipe) and isinstance(recipe.data, Shapes):
        found = measure_adherence(recipe.data, lambda texts: sample(model, len(texts), MEASURED, cond=ask(recipe, texts))) + found
    return found


def parameters(model: tuple[Networks, AutoregressiveRecipe]) -> int:
    """Return how many parameters it takes to draw: of the network, and of its first stage's decoder and quantiser."""
    (network,), _ = model
    count = sum(p.numel() for p in network.parameters())
    if isinstance(network, CodedNetwork):
        first = network.first
        words = first.quantiser.words if isinstance(first.quantiser, MultiScaleQuantiser) else first.quantiser
        count += sum(p.numel() for part in (first.decoder, first.quantiser) for p in part.parameters())
        count += words.codebook.numel()
    return count


def first_stage(recipe: AutoregressiveRecipe) -> str | None:
    """Name of the zoo's model that `train` and `load` are to be given as ``first_stage``, or None."""
    return recipe.first_stage


def check_given(grid: Grid, given: Tensor | None, known: Tensor | None, count: int) -> None:
    """Raise `InputError` unless given symbols and known places fit the grid, and come together."""
    if (given is None) != (known is None):
        raise InputError("given, known: give both or none")
    if given is None:
        return
    if given.shape != (count, *grid.shape) or known.shape != grid.shape[1:]:
        wanted = f"must be {(count, *grid.shape)} and {grid.shape[1:]}"
        raise InputError(f"given {tuple(given.shape)}, known {tuple(known.shape)}: {wanted}")
    if given.dtype != torch.int64 or known.dtype != torch.bool:
        raise InputError(f"given is {given.dtype}, known {known.dtype}: must be int64 and bool")
    kept = given[:, :, known.to(given.device)]
    if ((kept < 0) | (kept >= grid.levels)).any():
        raise InputError(f"given: symbols that are known must be from 0 to {grid.levels - 1}")
