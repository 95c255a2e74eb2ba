"""Discriminators are also shown what was made some time ago: Shrivastava et al. 2017, as Zhu et al. 2017 use it.

"Learning from simulated and unsupervised images through adversarial training", https://arxiv.org/abs/1612.07828, section
2.3; CycleGAN, https://arxiv.org/abs/1703.10593, section 4, where it is a buffer of 50 images. A discriminator that sees only
today's translations forgets what it held against yesterday's.

Deviations: a whole batch passes at once, through as many different places of the buffer, where CycleGAN takes one picture
after the other; which places, and which pictures are exchanged, follows from the run's seed and the images seen. Each picture
is exchanged with a chance of a half, where Shrivastava et al. exchange exactly half of a batch. And pictures stay for fewer
steps: ``2 * pictures / batch`` on average, which are 8 for the recipes' 512 at a batch of 128 or 64 at one of 16, and 100 for
CycleGAN's 50 at a batch of one.
"""

import torch
from torch import Tensor, nn

from gencore.errors import InputError
from gencore.training import rng


class History(nn.Module):
    """An image buffer: pictures of earlier steps. A checkpoint holds them, so that a run can resume.

    Parameters
    ----------
    pictures : int
        How many are kept; at least a batch, or 0 for none.
    shape : tuple of int
        Shape of a picture.
    """

    def __init__(self, pictures: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("pictures", torch.zeros(pictures, *shape))

    @torch.no_grad()
    def exchange(self, fake: Tensor, seed: int, seen: int, purpose: str) -> Tensor:
        """Return a batch in which each picture is, with a chance of a half, one of the buffer, which takes it in exchange.

        The others are returned, and not kept. Until the buffer is full, it takes all, and the batch is returned as it is.

        Parameters
        ----------
        fake : Tensor
            Pictures just made, ``(B, *shape)``.
        seed, seen, purpose
            What decides the chances: the run's seed, images seen so far, and a name.
        """
        size, count = len(self.pictures), len(fake)
        if not size:
            return fake
        if count > size:
            raise InputError(f"history of {size} pictures: must be 0 (none) or at least the batch of {count}")
        fake = fake.detach().to(self.pictures)
        if seen < size:
            place = torch.arange(seen, seen + count, device=fake.device) % size
            self.pictures.index_copy_(0, place, fake)
            return fake
        place = rng.uniform((size,), seed, seen, f"{purpose} place", device=fake.device).argsort()[:count]
        old = rng.uniform((count,), seed, seen, f"{purpose} old", device=fake.device) < 0.5
        old = old.view(-1, *[1] * (fake.dim() - 1))
        kept = self.pictures[place]
        self.pictures.index_copy_(0, place, torch.where(old, fake, kept))
        return torch.where(old, kept, fake)
