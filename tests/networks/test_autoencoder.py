"""The convolutional encoder and decoder, held to the same sums written out, and to what each option is for."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gencore.errors import InputError
from gencore.networks.autoencoder import Autoencoder, Decoder, Encoder
from gencore.training import recipe_io

SMALL = Autoencoder(size=8, channels=2, latent=3, width=8, multipliers=(1, 2, 2), blocks=2)
GRID = Autoencoder(size=8, channels=2, latent=3, flat=False, width=8, multipliers=(1, 2), patch=2)
TOLD = Autoencoder(size=8, latent=3, width=8, multipliers=(1, 2), classes=4)


def awake(network: nn.Module) -> nn.Module:
    """Give all weights values of a size that shows, the zeros and ones that layers start with included."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in network.parameters():
            start = 1.0 if p.ndim == 1 and (p == 1).all() else 0.0
            spread = 0.3 if p.ndim == 1 else (p[0].numel()) ** -0.5
            p.copy_(start + spread * torch.randn(p.shape, generator=generator))
    return network.double()


def images(config: Autoencoder, count: int = 2) -> Tensor:
    return torch.randn(count, config.channels, config.size, config.size, dtype=torch.float64)


def codes(config: Autoencoder, count: int = 2) -> Tensor:
    return torch.randn(count, *config.latent_shape, dtype=torch.float64)


def restated(network: Encoder | Decoder, h: Tensor, cond: Tensor | None) -> Tensor:
    """The same network as plain sums on its weights, by their names alone."""
    w, config = dict(network.named_parameters()), network.config
    encodes, vector = isinstance(network, Encoder), None if cond is None else w["embed.weight"][cond]

    def normed(h, name):  # mean 0 and variance 1 in each of 8 groups of channels of each image
        groups = h.unflatten(1, (8, -1)).flatten(2)  # (B, 8, n)
        centred = groups - groups.mean(2, keepdim=True)
        h = (centred / (centred.square().mean(2, keepdim=True) + 1e-5).sqrt()).reshape(h.shape)
        return h * w[f"{name}.weight"][:, None, None] + w[f"{name}.bias"][:, None, None]

    def convolved(h, name, stride=1):
        kernel = w[f"{name}.weight"]
        return F.conv2d(h, kernel, w[f"{name}.bias"], stride, padding=kernel.shape[-1] // 2)

    def block(h, name):
        r = normed(convolved(F.silu(normed(h, f"{name}.norm1")), f"{name}.conv1"), f"{name}.norm2")
        if vector is not None:
            moved = F.silu(vector) @ w[f"{name}.film.weight"].T + w[f"{name}.film.bias"]
            scale, shift = moved[:, : r.shape[1], None, None], moved[:, r.shape[1] :, None, None]
            r = r + scale * r + shift
        r = convolved(F.silu(r), f"{name}.conv2")
        return r + (convolved(h, f"{name}.shortcut") if f"{name}.shortcut.weight" in w else h)

    if encodes:  # the patch's pixels become channels, row by row
        b, c, height, width = h.shape
        p = config.patch
        h = h.reshape(b, c, height // p, p, width // p, p).permute(0, 1, 3, 5, 2, 4)
        h = convolved(h.reshape(b, c * p * p, height // p, width // p), "stem")
    elif config.flat:
        h = (h @ w["stem.weight"].T + w["stem.bias"]).reshape(len(h), -1, config.side, config.side)
    else:
        h = convolved(h, "stem")
    levels, layer = len(config.multipliers), 0
    for level in range(levels):
        if encodes and level:
            h, layer = convolved(h, f"layers.{layer}.conv", stride=2), layer + 1
        for _ in range(config.blocks):
            h, layer = block(h, f"layers.{layer}"), layer + 1
        if not encodes and level < levels - 1:
            h = h.repeat_interleave(2, 2).repeat_interleave(2, 3)
            h, layer = convolved(h, f"layers.{layer}.conv"), layer + 1
    assert layer == len(network.layers)
    h = F.silu(normed(h, "norm"))
    if encodes and config.flat:
        return h.reshape(len(h), -1) @ w["head.weight"].T + w["head.bias"]
    h = convolved(h, "head")
    if not encodes:
        b, p = len(h), config.patch
        h = h.reshape(b, -1, p, p, *h.shape[2:]).permute(0, 1, 4, 2, 5, 3).reshape(b, -1, config.size, config.size)
    return h


@pytest.mark.parametrize("config", [SMALL, GRID, TOLD])
def test_both_networks_are_the_sums_that_their_docstring_tells(config):
    torch.manual_seed(0)
    cond = torch.tensor([2, 0]) if config.classes else None
    for network, given in ((Encoder(config), images(config)), (Decoder(config), codes(config))):
        awake(network)
        torch.testing.assert_close(network(given, cond), restated(network, given, cond), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "config, side, latent_shape",
    [
        (Autoencoder(), 7, (16,)),
        (Autoencoder(flat=False), 7, (16, 7, 7)),
        (Autoencoder(size=32, channels=3, latent=4, flat=False, multipliers=(1, 2, 3)), 8, (4, 8, 8)),
        (Autoencoder(size=32, channels=3, out_channels=6, latent=5, width=8, multipliers=(1, 1), patch=4), 4, (5,)),
        (Autoencoder(size=14, latent=2, width=8, multipliers=(1, 2)), 7, (2,)),
        (Autoencoder(size=5, latent=2, width=8, multipliers=(3,)), 5, (2,)),
    ],
)
def test_shapes(config, side, latent_shape):
    assert (config.side, config.latent_shape) == (side, latent_shape)
    x, z = images(config).float(), codes(config).float()
    assert Encoder(config)(x).shape == (2, *latent_shape)
    assert Encoder(config, 2 * config.latent)(x).shape == (2, 2 * latent_shape[0], *latent_shape[1:])
    assert Decoder(config)(z).shape == (2, config.out_channels or config.channels, config.size, config.size)


def test_every_option_changes_the_networks():
    """Another value gives other weights; that each of them counts is tested below."""
    base = Autoencoder(size=8, channels=1, latent=4, width=8, multipliers=(1, 2), blocks=1)

    def facts(config):
        networks = Encoder(config), Decoder(config)
        return [(name, p.shape) for network in networks for name, p in network.named_parameters()]

    images = dict(size=16, channels=3, out_channels=2, latent=5, flat=False)
    others = images | dict(width=16, multipliers=(1, 3), blocks=2, patch=2, classes=3)
    assert set(others) == set(Autoencoder.__dataclass_fields__)
    for name, value in others.items():
        assert facts(replace(base, **{name: value})) != facts(base), name


def test_the_class_reaches_every_block_and_changes_the_answer():
    encoder, decoder = awake(Encoder(TOLD)), awake(Decoder(TOLD))
    zero, one = torch.tensor([0, 0]), torch.tensor([1, 1])
    for network, given in ((encoder, images(TOLD)), (decoder, codes(TOLD))):
        assert (network(given, zero) - network(given, one)).abs().max() > 1e-2
        mixed = network(given, torch.tensor([0, 1]))  # each image has its own
        torch.testing.assert_close(mixed[0], network(given, zero)[0])
        torch.testing.assert_close(mixed[1], network(given, one)[1])
        network(given, one).square().sum().backward()
        assert all(p.grad.any() for name, p in network.named_parameters() if "film" in name)


def test_classes_are_there_if_and_only_if_they_are_expected():
    plain, told, cond = Autoencoder(size=8, width=8, multipliers=(1,)), TOLD, torch.tensor([0, 1])
    for make, given in ((Encoder, images), (Decoder, codes)):
        with pytest.raises(InputError, match="takes no classes"):
            make(plain)(given(plain).float(), cond)
        with pytest.raises(InputError, match="needs classes"):
            make(told)(given(told).float())


@pytest.mark.parametrize("config", [SMALL, GRID, TOLD])
def test_every_parameter_gets_a_gradient(config):
    cond = torch.tensor([1, 3]) if config.classes else None
    encoder, decoder = awake(Encoder(config)), awake(Decoder(config))
    (decoder(encoder(images(config), cond), cond) - images(config)).square().mean().backward()
    for network in (encoder, decoder):
        assert not [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]


def test_a_grid_keeps_the_place_and_a_vector_does_not():
    """One pixel in a corner moves a grid's nearest corner more than the farthest one; normalisation reaches all."""
    config = Autoencoder(size=32, latent=2, flat=False, width=8, multipliers=(1, 1, 1))
    encoder, x = awake(Encoder(config)), torch.randn(1, 1, 32, 32, dtype=torch.float64)
    touched = x.clone()
    touched[0, 0, 0, 0] += 3
    moved = (encoder(touched) - encoder(x)).abs().sum(1)[0]  # (8, 8)
    assert moved[0, 0] > 20 * moved[-1, -1] > 0


@pytest.mark.parametrize(
    "wrong, field",
    [
        (dict(width=12), "width 12"),
        (dict(width=0), "width 0"),
        (dict(multipliers=()), "multipliers"),
        (dict(multipliers=(1, 0)), "multipliers"),
        (dict(size=30), "size 30.*multiple of 4"),
        (dict(size=28, patch=2), "size 28.*multiple of 8"),
        (dict(size=0), "size 0"),
        (dict(channels=0), "channels 0"),
        (dict(out_channels=0), "out_channels 0"),
        (dict(latent=0), "latent 0"),
        (dict(blocks=0), "blocks 0"),
        (dict(patch=0), "patch 0"),
        (dict(classes=-1), "classes -1"),
    ],
)
def test_sizes_that_make_no_network_are_refused(wrong, field):
    with pytest.raises(InputError, match=field):
        Autoencoder(**wrong)


def test_a_recipe_can_hold_the_sizes():
    assert recipe_io.from_dict(Autoencoder, recipe_io.to_dict(GRID)) == GRID
