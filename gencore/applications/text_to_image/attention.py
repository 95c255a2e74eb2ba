"""Where a diffusion model looks for each word while it draws: Hertz et al. 2022, "Prompt-to-prompt image editing".

https://arxiv.org/abs/2208.01626, section 3 and figure 4: the shares of attention that places give to a word, averaged over
the layers and over the steps from noise to picture, draw that word's outline.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from gencore import diffusion
from gencore.applications.text_to_image.drawing import Model, told
from gencore.data import wording
from gencore.data.told import untold, with_mirrored
from gencore.diffusion.guidance import classifier_free, conditional
from gencore.errors import InputError
from gencore.networks.latent import LatentNetwork
from gencore.networks.text_unet import TextUNetNetwork, attention_maps
from gencore.training import rng


class Looked(NamedTuple):
    """A picture, and where its words were looked at.

    Attributes
    ----------
    image : Tensor
        float32 ``(C, H, W)`` in [-1, 1].
    words : list of str
        Those of the prompt, and last the end.
    maps : Tensor
        ``(len(words), h, w)``, the share of a place's attention that goes to each word, mean over layers and steps.
    """

    image: Tensor
    words: list[str]
    maps: Tensor


@torch.inference_mode()
def draw_with_maps(model: Model, prompt: str, seed: int, number: int = 0, style: str | None = None) -> Looked:
    """Draw picture ``number`` of a series, and see where each word is looked at on the way.

    The picture is that of `draw`, up to rounding.

    Raises
    ------
    InputError
        If the model is not a U-Net that reads, or cannot be told this.
    """
    (network,), recipe = model
    reader = network.denoiser if isinstance(network, LatentNetwork) else network
    if not isinstance(reader, TextUNetNetwork):
        raise InputError("model: only a U-Net that reads has places that look at words")
    if recipe.sampling.random:
        raise InputError("sampling: steps with noise of their own are not followed here; take another sampler")
    device = next(network.parameters()).device
    cond = with_mirrored(recipe, told(recipe, prompt, style), torch.zeros(1, dtype=torch.int64)).to(device)
    how, denoiser, maps = recipe.sampling, diffusion.denoiser(model), []
    guided = conditional(denoiser, cond)
    if how.guidance != 1:
        guided = classifier_free(denoiser, cond, untold(recipe, cond), how.guidance, how.interval)

    def watched(x_t: Tensor, t: Tensor) -> Tensor:
        maps.append(attention_maps(reader, x_t, t.expand(1), cond)[0])  # (L, h, w)
        return guided(x_t, t)

    noise = rng.normal_per_image(1, (1, *recipe.network.shape), seed, number).to(device)
    drawn = diffusion.walk(watched, recipe.process, how, noise)
    image = network.decode(drawn) if isinstance(network, LatentNetwork) else drawn
    words = [*wording.decode(recipe.data, cond[0, : recipe.captions.length]), "<end>"]
    return Looked(image[0].clamp(-1, 1).cpu(), words, torch.stack(maps).mean(0)[: len(words)].cpu())
