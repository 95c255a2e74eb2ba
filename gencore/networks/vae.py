"""A variational autoencoder's two networks: Kingma & Welling 2014, "Auto-encoding variational Bayes".

https://arxiv.org/abs/1312.6114, section 3 and appendix C: the encoder returns mean and standard deviation of a Gaussian
over the latent vector, the decoder the parameters of a distribution of images.

Deviation: convolutions where the paper has one hidden layer.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from gencore.networks.autoencoder import Autoencoder, Decoder, Encoder

LOG_STD_RANGE = (-7.0, 3.0)  # a spread beyond it is a step gone astray; the exponential would never come back


class Level(NamedTuple):
    """One group of latent variables: a draw from its posterior, and the moments of posterior and prior.

    Each is ``(B, *shape)``. Both distributions are Gaussian with independent coordinates.
    """

    z: Tensor
    mean: Tensor
    log_std: Tensor
    prior_mean: Tensor
    prior_log_std: Tensor


class VAE(nn.Module):
    """Encoder, decoder, and a standard normal prior between them.

    Parameters
    ----------
    config : Autoencoder
        The sizes.
    """

    def __init__(self, config: Autoencoder) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config, 2 * config.latent)
        self.decoder = Decoder(config)

    @property
    def latent_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shape of each group of latent variables of one image; here there is one group."""
        return (self.config.latent_shape,)

    def encode(self, x: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return mean and logarithm of the standard deviation of q(z | x), each ``(B, *latent_shape)``."""
        mean, log_std = self.encoder(x, cond).float().chunk(2, dim=1)
        return mean, log_std.clamp(*LOG_STD_RANGE)

    def decode(self, z: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return the likelihood's parameters ``(B, out_channels, size, size)``."""
        return self.decoder(z, cond)

    def forward(
        self, x: Tensor, eps: tuple[Tensor, ...], cond: Tensor | None = None
    ) -> tuple[Tensor, tuple[Level, ...]]:
        """Return the likelihood's parameters and the latent levels, given standard normal ``eps``.

        ``eps`` may hold K rows for each image, row ``i * K + k`` for draw k of image i. The image is then encoded once,
        and K rows an image are returned.
        """
        draws = len(eps[0]) // len(x)
        mean, log_std = (each.repeat_interleave(draws, 0) for each in self.encode(x, cond))
        cond = None if cond is None else cond.repeat_interleave(draws, 0)
        z = mean + log_std.exp() * eps[0]  # equation 4, (VA.7)
        zeros = torch.zeros_like(mean)
        return self.decode(z, cond), (Level(z, mean, log_std, zeros, zeros),)

    def generate(self, eps: tuple[Tensor, ...], cond: Tensor | None = None) -> Tensor:
        """Return the likelihood's parameters for draws from the prior; ``eps`` are those draws."""
        return self.decode(eps[0], cond)
