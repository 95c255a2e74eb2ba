"""MaskGIT's network: every place looks at every place, and hidden symbols are one more value."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from gencore.errors import InputError
from gencore.networks.embeddings import sinusoidal_grid
from gencore.networks.maskgit import MaskGIT, MaskGITNetwork
from gencore.networks.symbols import Grid

CODES = Grid(size=3, levels=5, named=True, conditions=(4, 2))
TINY = MaskGIT(CODES, width=8, depth=2, heads=2, mlp_ratio=3)
NEAR = replace(TINY, near=1)

pytestmark = pytest.mark.usefixtures("double_precision")


def awake(config=TINY):
    """A network with random weights everywhere."""
    network = MaskGITNetwork(config)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return network


def symbols_and_cond(batch=4):
    return torch.randint(6, (batch, 1, 3, 3)), torch.stack([torch.randint(5, (batch,)), torch.randint(3, (batch,))], 1)


@pytest.mark.parametrize(
    "config", [TINY, NEAR, MaskGIT(Grid(4, levels=7, named=True), 12, 1, 3), MaskGIT(Grid(1, levels=2, named=True), 4, 1, 1)]
)
def test_shapes(config):
    grid, batch = config.grid, 3
    logits = MaskGITNetwork(config)(torch.full((batch, 1, grid.size, grid.size), config.mask))
    assert logits.shape == (batch, grid.levels, grid.size, grid.size)
    assert config.mask == grid.levels


@pytest.mark.parametrize("near", [0, 1, 2])
def test_a_network_written_plainly(near):
    """Section 3.1 of the paper, normalisation first, on the same weights."""
    network, (symbols, cond) = awake(replace(TINY, near=near)), symbols_and_cond()
    w = dict(network.named_parameters())

    def norm(h, name):
        h = (h - h.mean(2, keepdim=True)) / (h.var(2, correction=0, keepdim=True) + 1e-5).sqrt()
        return h * w[f"{name}.weight"] + w[f"{name}.bias"]

    def attend(h, name):
        key, value = w[f"{name}.key_value.weight"].split(8)
        heads = []
        for part in (slice(0, 4), slice(4, 8)):
            q, k, v = h @ w[f"{name}.query.weight"][part].T, h @ key[part].T, h @ value[part].T
            heads.append((q @ k.transpose(1, 2) / 4**0.5).softmax(2) @ v)
        return F.linear(torch.cat(heads, 2), w[f"{name}.out.weight"], w[f"{name}.out.bias"])

    def mlp(h, name):
        h = F.gelu(F.linear(h, w[f"{name}.0.weight"], w[f"{name}.0.bias"]))
        return F.linear(h, w[f"{name}.2.weight"], w[f"{name}.2.bias"])

    told = w["teller.tables.0.weight"][cond[:, 0]] + w["teller.tables.1.weight"][cond[:, 1]]
    tokens, vectors, reach = [told], w["table.weight"][symbols[:, 0]], range(-near, near + 1)
    for row in range(3):
        for column in range(3):
            token = vectors[:, row, column] + w["places"][3 * row + column]
            for down, right in itertools.product(reach, reach) if near else ():  # the convolution over neighbours
                if 0 <= row + down < 3 and 0 <= column + right < 3:
                    kernel = w["around.weight"][:, :, near + down, near + right]
                    token = token + vectors[:, row + down, column + right] @ kernel.T
            tokens.append(token + w["around.bias"] if near else token)
    h = torch.stack(tokens, 1)
    for number in range(2):
        h = h + attend(norm(h, f"blocks.{number}.norm1"), f"blocks.{number}.attention")
        h = h + mlp(norm(h, f"blocks.{number}.norm2"), f"blocks.{number}.mlp")
    expected = F.linear(norm(h, "norm"), w["head.weight"], w["head.bias"])
    logits = network(symbols, cond)
    for place in range(9):
        torch.testing.assert_close(logits[:, :, place // 3, place % 3], expected[:, 1 + place])


def test_every_place_depends_on_every_place():
    """In both directions, and on itself."""
    network, (symbols, cond) = awake(), symbols_and_cond(1)
    before = network(symbols, cond)
    for place in range(9):
        other = symbols.clone()
        other.view(-1)[place] = (other.view(-1)[place] + 1) % 6
        assert ((network(other, cond) - before).abs().amax(1) > 1e-6).all()


@pytest.mark.parametrize("config", [TINY, NEAR])
def test_a_hidden_symbol_tells_nothing_of_what_it_was(config):
    """The mask is a value of its own: all that is hidden alike is answered alike, and unlike any code."""
    network, (symbols, cond) = awake(config), symbols_and_cond(1)
    answers = []
    for value in range(6):
        symbols[0, 0, 1, 1] = value
        answers.append(network(symbols, cond))
    assert all((answers[5] - answer).abs().max() > 1e-6 for answer in answers[:5])
    hidden = torch.zeros_like(symbols, dtype=torch.bool)
    hidden[0, 0, 1, 1] = True
    for value in range(6):
        symbols[0, 0, 1, 1] = value
        assert torch.equal(network(symbols, cond, hidden=hidden), answers[5])


def test_positions_begin_as_sines_and_are_learned():
    network = MaskGITNetwork(TINY)
    assert torch.equal(network.places, sinusoidal_grid(3, 3, 8))
    assert network.places.requires_grad
    assert "places" in network.state_dict()


def test_each_condition_counts_at_every_place_and_none_is_not_told():
    network, (symbols, _) = awake(), symbols_and_cond(1)
    plain = network(symbols, torch.tensor([[1, 0]]))
    for other in ([[2, 0]], [[1, 1]], [[4, 0]], [[1, 2]]):
        assert ((network(symbols, torch.tensor(other)) - plain).abs().amax(1) > 1e-6).all()
    assert torch.equal(network(symbols, None), network(symbols, torch.tensor([[4, 2]])))


def test_an_image_does_not_see_another():
    network, (symbols, cond) = awake(), symbols_and_cond()
    torch.testing.assert_close(network(symbols, cond)[1:2], network(symbols[1:2], cond[1:2]))


@pytest.mark.parametrize("conditions", [(), (4, 2)])
@pytest.mark.parametrize("near", [0, 1])
def test_every_parameter_gets_a_gradient(conditions, near):
    network = MaskGITNetwork(MaskGIT(Grid(3, levels=5, named=True, conditions=conditions), 8, 2, 2, near=near))
    logits = network(torch.randint(6, (4, 1, 3, 3)))
    (logits * torch.randn_like(logits)).sum().backward()
    assert all(p.grad.abs().max() > 0 for p in network.parameters())


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: MaskGIT(Grid(8, levels=5)), "must have named symbols"),
        (lambda: MaskGIT(Grid(8, channels=3, levels=5, named=True)), "one channel"),
        (lambda: MaskGIT(Grid(8, levels=5, named=True, outputs=3)), "outputs 3"),
        (lambda: MaskGIT(width=6, heads=2), "width 6: must be a multiple of 4"),
        (lambda: MaskGIT(width=8, heads=3), "the 3 heads"),
        (lambda: MaskGIT(depth=0), "depth 0"),
        (lambda: MaskGIT(mlp_ratio=0), "mlp_ratio 0"),
        (lambda: MaskGIT(near=-1), "near -1: must be 0 or more"),
        (lambda: MaskGITNetwork(TINY)(torch.zeros(1, 1, 3, 4, dtype=torch.int64)), r"\(1, 3, 4\)"),
        (lambda: MaskGITNetwork(TINY)(torch.zeros(1, 2, 3, 3, dtype=torch.int64)), r"\(2, 3, 3\)"),
        (lambda: MaskGITNetwork(TINY)(*(torch.zeros(s, dtype=torch.int64) for s in ((1, 1, 3, 3), (1, 1)))), "conditions"),
    ],
)
def test_what_does_not_fit_is_refused(call, sentence):
    with pytest.raises(InputError, match=sentence):
        call()


def test_a_symbol_above_the_mask_is_refused():
    with pytest.raises(IndexError):
        MaskGITNetwork(TINY)(torch.full((1, 1, 3, 3), 6))
