"""Image transformer: every place before and no other, and the same place by place."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from gencore.errors import InputError
from gencore.networks.image_transformer import ImageTransformer, ImageTransformerNetwork
from gencore.networks.symbols import Grid
from gencore.networks.transformer import Transformer, dropout_factors
from tests.networks import writing
from tests.networks.writing import awake, pictures

pytestmark = pytest.mark.usefixtures("double_precision")

STACK = Transformer(8, depth=2, heads=2, causal=True, mlp_ratio=2)
TOLD = ImageTransformer(Grid(4, levels=5, named=True, conditions=(3, 2)), STACK, near=2, drop=0.25)
NEXT = ImageTransformer(Grid(5, levels=3, outputs=7), STACK)
NEAR = ImageTransformer(Grid(5, levels=3), STACK, near=1)
FAR = ImageTransformer(Grid(3, levels=3, conditions=(2,)), replace(STACK, depth=1), near=4)
ALL = pytest.mark.parametrize("config", [TOLD, NEXT, NEAR, FAR])


def make(config):
    return awake(ImageTransformerNetwork(config)), *pictures(config.grid)


@ALL
def test_shapes(config):
    network, symbols, cond = make(config)
    assert network(symbols, cond).shape == (3, config.grid.numbers, config.grid.size, config.grid.size)
    assert config.noise_shape == ((2, 2, 8) if config is TOLD else ())


@ALL
def test_a_network_written_plainly(config):
    """Tokens made one by one from what stands around their place; the stack is held by its own test."""
    network, symbols, cond = make(config)
    w, size, near = dict(network.named_parameters()), config.grid.size, config.near
    x = w["table.weight"][symbols[:, 0]]  # (B, H, W, width)
    line, tokens = x.flatten(1, 2), []
    for place in range(size**2):
        row, column = divmod(place, size)
        token = w["rows"][row, 0] + w["columns"][0, column] + torch.zeros(3, 8)
        for k in range(len(config.grid.conditions)):
            token = token + w[f"told.tables.{k}.weight"][cond[:, k]]
        if not near and place:
            token = token + line[:, place - 1]
        if near:
            token = token + w["above.bias"] + w["beside.bias"]
        for back in range(1, near + 1):
            if place >= back:
                token = token + line[:, place - back] @ w["beside.weight"][:, :, 0, near - back].T
            for right in range(-near, near + 1):
                if row >= back and 0 <= column + right < size:
                    weight = w["above.weight"][:, :, near - back, near + right]
                    token = token + x[:, row - back, column + right] @ weight.T
        tokens.append(token)
    h = F.linear(network.body(torch.stack(tokens, 1)), w["head.weight"], w["head.bias"])
    expected = h.transpose(1, 2).unflatten(2, (size, size))
    torch.testing.assert_close(network(symbols, cond), expected)


@pytest.mark.parametrize("near", [0, 1, 2])
def test_it_sees_every_place_before(near):
    """Also the end of the row above, from the beginning of a row; one layer of attention is enough."""
    config = ImageTransformer(Grid(6, levels=3), replace(STACK, depth=1), near=near)
    network, x = awake(ImageTransformerNetwork(config)), torch.randn(2, 6, 6, 8)
    for place in range(36):
        seen = writing.seen_by(network.from_vectors, x, divmod(place, 6)).any(2).flatten()
        assert torch.equal(seen, torch.arange(36) < place), place


def test_vectors_may_be_given():
    network, symbols, cond = make(TOLD)
    assert torch.equal(network.from_vectors(network.table(symbols[:, 0]), cond), network(symbols, cond))


@ALL
def test_place_by_place_it_says_the_same(config):
    network, symbols, cond = make(config)
    writing.check_written_in_turn(network, symbols, cond)
    writing.check_written_in_turn(network, symbols, None)


@pytest.mark.parametrize(("grid", "near"), [(Grid(2), 0), (Grid(2), 1), (Grid(2, named=True, conditions=(3,)), 2)])
def test_all_pictures_together_have_probability_one(grid, near):
    network = awake(ImageTransformerNetwork(ImageTransformer(grid, STACK, near)))
    writing.check_probabilities(network, (1,) if grid.conditions else None)


@pytest.mark.parametrize("config", [TOLD, FAR])
def test_conditions_are_heard(config):
    writing.check_conditions(*make(config))


@ALL
def test_pictures_do_not_mix(config):
    writing.check_rows(*make(config))


def test_places_are_told_apart():
    """With nothing but zeros before it, each place says something of its own."""
    network = make(NEXT)[0]
    network.table.weight.data.zero_()
    params = network(torch.zeros(1, 1, 5, 5, dtype=torch.int64)).flatten(2)[0].T
    assert torch.pdist(params).min() > 1e-3


def test_dropout_comes_from_the_numbers_given():
    """Each picture has its own; without numbers nothing is left out."""
    network, symbols, cond = make(TOLD)
    u = torch.rand(3, *TOLD.noise_shape)
    params = network(symbols, cond, u)
    assert torch.equal(network(symbols, cond, u), params)
    for row in range(3):
        alone = network(symbols[row, None], cond[row, None], u[row, None])
        torch.testing.assert_close(params[row], alone[0])
    told = network.told(cond, 3)[:, None, None]
    seen = network._before(network.table(symbols[:, 0])) + network.rows + network.columns + told
    expected = network.head(network.body(seen.flatten(1, 2), keep=dropout_factors(u, 0.25)))
    torch.testing.assert_close(params.flatten(2), expected.transpose(1, 2))
    assert not torch.allclose(params, network(symbols, cond))
    undropped = awake(ImageTransformerNetwork(replace(TOLD, drop=0.0)))
    assert torch.equal(undropped(symbols, cond, u), network(symbols, cond))


@ALL
def test_every_parameter_learns(config):
    network = awake(ImageTransformerNetwork(config))
    writing.check_every_parameter_learns(network, *pictures(config.grid, 20))


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (dict(grid=Grid(4, channels=3)), "grid.channels 3: this network writes one symbol"),
        (dict(transformer=replace(STACK, causal=False)), "transformer: must be causal, and without context"),
        (dict(transformer=replace(STACK, context=4)), "transformer: must be causal, and without context"),
        (dict(near=-1), "near -1: must be 0 or more"),
        (dict(drop=-0.1), "drop -0.1: must be at least 0 and below 1"),
        (dict(drop=1.0), "drop 1.0"),
    ],
)
def test_sizes_that_make_no_network_are_refused(wrong, sentence):
    with pytest.raises(InputError, match=sentence):
        replace(TOLD, **wrong)


def test_symbols_and_conditions_that_do_not_fit_are_refused():
    network, symbols, cond = make(TOLD)
    for ask in (network, network.incremental):
        with pytest.raises(InputError, match=r"symbols of shape \(1, 4, 3\): this network takes \(1, 4, 4\)"):
            ask(symbols[..., :3], cond)
        with pytest.raises(InputError, match=r"conditions \(3, 1\): this network takes \(3, 2\)"):
            ask(symbols, cond[:, :1])
