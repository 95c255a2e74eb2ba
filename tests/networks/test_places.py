"""A picture as a row of vectors: which place is which, and who looks at whom."""

import pytest
import torch

from gencore.errors import InputError
from gencore.networks.autoencoder import Autoencoder
from gencore.networks.places import Places, PlacesNetwork
from gencore.networks.transformer import Transformer
from tests.networks.writing import awake

pytestmark = pytest.mark.usefixtures("double_precision")

LOOKING = Autoencoder(size=8, channels=3, latent=8, flat=False, width=8, multipliers=(1, 2))
ALONE, TOGETHER = Places(LOOKING), Places(LOOKING, Transformer(8, 2, 2, mlp_ratio=2))


@pytest.mark.parametrize("config", [ALONE, TOGETHER])
def test_a_network_written_plainly(config):
    """Codes of the encoder, read row by row, with the vectors of their row and column."""
    network, x = awake(PlacesNetwork(config)), torch.rand(3, 3, 8, 8) * 2 - 1
    grid = network.encoder(x)  # (3, 8, 4, 4)
    row = [grid[:, :, i, j] + network.rows[i, 0] + network.columns[0, j] for i in range(4) for j in range(4)]
    expected = torch.stack(row, 1)
    expected = expected if network.body is None else network.body(expected)
    found = network(x)
    assert found.shape == (3, 16, 8) and (config.side, config.width, config.size, config.channels) == (4, 8, 8, 3)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(network(x[1:2]), found[1:2])
    (found * torch.randn_like(found)).sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_only_a_transformer_lets_places_look_at_all_others():
    """A convolution reaches only so far; group normalisation, which sees the whole map, is held fixed by being alike."""
    reached = []
    large = Autoencoder(size=32, channels=3, latent=8, flat=False, width=8, multipliers=(1, 2))
    for transformer in (None, TOGETHER.transformer):
        network = awake(PlacesNetwork(Places(large, transformer)), std=0.2)
        for module in network.encoder.modules():
            if isinstance(module, torch.nn.GroupNorm):
                module.forward = lambda h: h
        x = torch.rand(1, 3, 32, 32).requires_grad_()
        (gradient,) = torch.autograd.grad(network(x)[0, 0].sum(), x)
        reached.append(gradient.ne(0).any(1)[0])
    assert reached[0][0, 0] and not reached[0][31, 31] and reached[1].all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(encoder=Autoencoder()), "encoder: must have flat=False"),
        (dict(transformer=Transformer(16, heads=2)), "transformer.width 16: must be 8"),
        (dict(transformer=Transformer(8, heads=2, causal=True)), "not causal"),
        (dict(transformer=Transformer(8, heads=2, context=8)), "no context"),
    ],
)
def test_nonsense_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        Places(**{"encoder": LOOKING, **change})


def test_pictures_of_another_shape_are_refused():
    with pytest.raises(InputError, match=r"pictures of shape \(3, 8, 6\): this network looks at \(3, 8, 8\)"):
        PlacesNetwork(ALONE)(torch.rand(2, 3, 8, 6))
