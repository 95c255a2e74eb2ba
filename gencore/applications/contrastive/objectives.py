"""What a model of pictures and captions minimises: who belongs to whom?

Radford et al. 2021, https://arxiv.org/abs/2103.00020, figure 3; the bound behind it is that of van den Oord et al.
2018, "Representation learning with contrastive predictive coding", https://arxiv.org/abs/1807.03748, equation 4.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gencore.errors import InputError
from gencore.training.loss import Loss


class Networks(NamedTuple):
    """The networks: one, ``model(x, captions)``, that has a ``scale``."""

    model: nn.Module


class Draw(NamedTuple):
    """The randomness of one loss evaluation: wrong captions.

    Attributes
    ----------
    wrong : Tensor
        int64 ``(B, H, L)``, versions of each picture's own caption.
    usable : Tensor
        bool ``(B, H)``: which of them count.
    """

    wrong: Tensor
    usable: Tensor


@dataclass(frozen=True)
class InfoNCE:
    """The surprise of the right caption among all of a batch, and of the right picture, half of each.

    Attributes
    ----------
    pictures : float
        Weight of "which picture belongs to this caption?"; "which caption to this picture?" has the rest of 1. Only the
        second question sees wrong versions of a caption: they belong to no picture.
    """

    pictures: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.pictures <= 1:
            raise InputError(f"pictures {self.pictures}: a share of the loss, from 0 to 1")

    def __call__(self, networks: Networks, x: Tensor, captions: Tensor, draw: Draw) -> Loss:
        """Return the mean surprise of a pair, in nats.

        Parameters
        ----------
        networks : Networks
            The model.
        x : Tensor
            Pictures ``(B, C, H, W)`` in [-1, 1].
        captions : Tensor
            One for each, int64 ``(B, L)``. The same words twice in a batch are no wrong answer to each other.
        draw : Draw
            Wrong versions of the captions.

        Returns
        -------
        Loss
            Parts: ``captions`` and ``pictures``, the two surprises in nats; ``right``, how often the right caption fits
            best; ``scale``, one over the temperature.
        """
        batch, versions, length = draw.wrong.shape
        pictures, texts = networks.model(x, torch.cat([captions, draw.wrong.view(batch * versions, length)]))
        own, wrong = texts[:batch], texts[batch:].view(batch, versions, pictures.shape[1])  # (B, D), (B, H, D)
        with torch.autocast(x.device.type, enabled=False):  # cosines near each other must stay apart
            scale, answer = networks.model.scale, torch.arange(batch, device=x.device)
            fit = scale * pictures @ own.T  # (B, B): rows are pictures
            twice = (captions[:, None] == captions).all(2) & (answer[:, None] != answer)
            fit = fit.masked_fill(twice, float("-inf"))
            wrong_fit = (scale * (pictures[:, None] * wrong).sum(2)).masked_fill(~draw.usable, float("-inf"))  # (B, H)
            among = torch.cat([fit, wrong_fit], 1)
            which_caption, which_picture = cross_entropy(among, answer), cross_entropy(fit.T, answer)
        total = (1 - self.pictures) * which_caption + self.pictures * which_picture
        right = (among.argmax(1) == answer).float().mean()
        return Loss(total, {"captions": which_caption, "pictures": which_picture, "right": right, "scale": scale})
