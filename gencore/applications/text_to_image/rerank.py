"""The best of several: draw a caption more than once and keep the picture that fits it best.

Ramesh et al. 2021, "Zero-shot text-to-image generation", https://arxiv.org/abs/2102.12092, section 2.6: of 512 pictures
for each caption the best is shown, by a contrastive model (`gencore.applications.contrastive`).
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gencore.data.shapes_scorer import score_all
from gencore.errors import InputError

Scorer = Callable[[Tensor, Sequence[str]], Tensor]  # images (N, C, H, W), as many captions -> how well they fit, (N,)


def best_of(images: Tensor, captions: Sequence[str], scorer: Scorer) -> tuple[Tensor, Tensor]:
    """Return for each caption that one of its pictures that fits it best.

    Parameters
    ----------
    images : Tensor
        ``(P, n, C, H, W)``: for each of ``P`` captions ``n`` pictures, in a form that the scorer takes.
    captions : sequence of str
        ``P`` captions.
    scorer : callable
        Such as ``contrastive.scorer(model)``, or `exact`. Of pictures that fit equally well the first is taken.

    Returns
    -------
    best : Tensor
        ``(P, C, H, W)``.
    scores : Tensor
        How well each picture fits, ``(P, n)``; the first one's column is what a single draw would have given.

    Raises
    ------
    InputError
        If images and captions do not go together, or there is nothing to choose from.
    """
    if images.dim() != 5 or len(images) != len(captions) or not images.shape[1]:
        count = len(captions)
        raise InputError(f"images {tuple(images.shape)}: for {count} captions give ({count}, n, C, H, W), n at least 1")
    count = images.shape[1]
    scores = scorer(images.flatten(0, 1), [text for text in captions for _ in range(count)]).view(-1, count)  # (P, n)
    return images[torch.arange(len(images)), scores.argmax(1)], scores


def exact(images: Tensor, captions: Sequence[str]) -> Tensor:
    """Return the share of each caption's facts that its picture shows: for shapes, what no scorer can beat.

    Parameters and errors as for `gencore.data.shapes_scorer.score_all`; float32 ``(N,)``, from 0 to 1.
    """
    return torch.tensor([score.fraction for score in score_all(images, captions)])
