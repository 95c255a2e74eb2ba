"""A network that writes codes: the first stage's codes and pictures, the writer's words."""

from dataclasses import replace

import pytest
import torch

from gencore.errors import InputError
from gencore.networks.autoencoder import Autoencoder
from gencore.networks.coded import Coded, CodedNetwork
from gencore.networks.gated_pixelcnn import GatedPixelCNN, GatedPixelCNNNetwork
from gencore.networks.image_transformer import ImageTransformer, ImageTransformerNetwork
from gencore.networks.quantiser import FSQ, Codebook
from gencore.networks.symbols import Grid
from gencore.networks.transformer import Transformer
from gencore.networks.vqvae import VQ, VQVAE

FIRST = VQ(Autoencoder(size=16, channels=3, latent=2, flat=False, width=8, multipliers=(1, 1, 1)), Codebook(6))
GRID = Grid(4, levels=6, named=True, conditions=(3,))
TOKENS = Coded(FIRST, ImageTransformer(GRID, Transformer(8, 1, 2, causal=True), near=1, drop=0.5))
GATED = Coded(FIRST, GatedPixelCNN(GRID, width=4, depth=1, kernel=3))
BOTH = pytest.mark.parametrize(("config", "kind"), [(TOKENS, ImageTransformerNetwork), (GATED, GatedPixelCNNNetwork)])


def make(config):
    torch.manual_seed(0)
    first, model = VQVAE(config.first), CodedNetwork(config)
    model.adopt(first)
    return first, model, torch.rand(5, 3, 16, 16) * 2 - 1


@BOTH
def test_codes_and_pictures_are_the_first_stages_own(config, kind):
    first, model, images = make(config)
    symbols = model.encode(images)
    assert symbols.shape == (5, 1, 4, 4) and symbols.dtype == torch.int64
    assert torch.equal(symbols[:, 0], first.encode(images))
    assert len(symbols.unique()) > 1
    pictures = model.decode(symbols)
    assert pictures.shape == images.shape
    assert torch.equal(pictures, first.decode(symbols[:, 0]))


@BOTH
def test_what_is_said_are_the_writers_words(config, kind):
    _, model, images = make(config)
    symbols, cond = model.encode(images), torch.tensor([[0], [1], [2], [3], [0]])
    assert isinstance(model.writer, kind) and model.writer.config == config.writer
    assert torch.equal(model(symbols, cond), model.writer(symbols, cond))
    assert not torch.equal(model(symbols), model(symbols, cond))
    at, whole = model.incremental(symbols, cond), model(symbols, cond)
    for row, column in ((0, 0), (0, 1), (0, 2)):
        torch.testing.assert_close(at(row, column), whole[:, :, row, column])


def test_dropout_reaches_the_writer():
    _, model, images = make(TOKENS)
    symbols, u = model.encode(images), torch.rand(5, *TOKENS.writer.noise_shape)
    assert torch.equal(model(symbols, None, u), model.writer(symbols, None, u))
    assert not torch.equal(model(symbols, None, u), model(symbols))


@BOTH
def test_the_first_stage_is_passed_in_and_not_saved(config, kind):
    first, model, images = make(config)
    assert {name.split(".")[0] for name in model.state_dict()} == {"writer"}
    assert {name.split(".")[0] for name, _ in model.named_parameters()} == {"writer"}
    assert model.first is first and not first.training
    with pytest.raises(InputError, match="first stage: missing"):
        CodedNetwork(config).encode(images)


@BOTH
def test_only_the_writer_learns(config, kind):
    first, model, images = make(config)
    params = model(model.encode(images), torch.tensor([[0], [1], [2], [3], [0]]))
    (params * torch.randn_like(params)).sum().backward()
    assert [name for name, p in model.named_parameters() if not p.grad.any()] == []
    assert all(p.grad is None and not p.requires_grad for p in first.parameters())


@BOTH
def test_the_first_stage_goes_where_the_network_goes(config, kind):
    _, model, _ = make(config)
    assert {p.device.type for p in model.to("meta").first.parameters()} == {"meta"}


def test_what_a_recipe_asks_for():
    for config in (TOKENS, GATED):
        assert (config.size, config.channels, config.grid) == (16, 3, GRID)
        assert CodedNetwork(config).config.grid == GRID


def test_an_alphabet_without_a_codebook_will_do():
    writer = replace(TOKENS.writer, grid=replace(GRID, levels=12))
    _, model, images = make(Coded(replace(FIRST, quantiser=FSQ((3, 4))), writer))
    assert model.encode(images).max() < 12
    assert model(model.encode(images)).shape == (5, 12, 4, 4)


@pytest.mark.parametrize("config", [TOKENS, GATED])
@pytest.mark.parametrize("wrong", [dict(size=5), dict(levels=7), dict(named=False)])
def test_writers_of_other_grids_are_refused(config, wrong):
    with pytest.raises(InputError, match=r"writer.grid: must be named, with size and levels \(4, 6\)"):
        replace(config, writer=replace(config.writer, grid=replace(GRID, **wrong)))


def test_first_stages_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="first: must be an autoencoder .* without classes"):
        replace(TOKENS, first=replace(FIRST, autoencoder=replace(FIRST.autoencoder, classes=3)))
    _, model, _ = make(TOKENS)
    with pytest.raises(InputError, match="first stage: has other sizes"):
        model.adopt(VQVAE(replace(FIRST, quantiser=Codebook(7))))
