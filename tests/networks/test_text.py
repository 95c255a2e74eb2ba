"""The network that reads captions: shapes, its sum written plainly, and what it knows of order."""

import pytest
import torch
from torch import nn

from gencore.errors import InputError
from gencore.networks.text import TextEncoder, TextEncoderNetwork
from gencore.networks.transformer import Transformer
from gencore.training import recipe_io

SMALL = TextEncoder(words=9, length=5, transformer=Transformer(8, 2, 2))


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = TextEncoderNetwork(SMALL).double()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.5)
    return network


IDS = torch.tensor([[3, 4, 5, 0, 0], [5, 4, 3, 0, 0], [8, 8, 8, 8, 8]])


def test_a_vector_for_each_token_written_plainly(network):
    expected = torch.stack([torch.stack([network.table.weight[i] for i in row.tolist()]) for row in IDS]) + network.places
    torch.testing.assert_close(network(IDS), network.body(expected))
    assert network(IDS).shape == (3, 5, 8)


def test_order_counts_and_every_token_sees_every_other(network):
    ours = network(IDS)
    assert (ours[0, [0, 1, 2]] - ours[1, [2, 1, 0]]).abs().amax(1).min() > 1e-3  # the same words at other places
    other = IDS.clone()
    other[0, 2] = 7
    assert (network(other)[0] - ours[0]).abs().amax(1).min() > 1e-4  # of a changed word all tokens hear
    assert torch.equal(network(other)[1:], ours[1:])


def test_a_new_network_tells_words_apart():
    network = TextEncoderNetwork(TextEncoder(50, 4))
    assert 0.15 < network.table.weight.std() < 0.25 and 0.15 < network.places.std() < 0.25
    ids = torch.randint(0, 50, (6, 4))
    assert (network(ids)[0] - network(ids)[1]).abs().max() > 0.1


def test_every_parameter_gets_a_gradient(network):
    output = network(torch.arange(9).repeat(2).view(-1)[:15].view(3, 5))
    (output * torch.randn_like(output)).sum().backward()
    assert all(p.grad.abs().max() > 0 for p in network.parameters())


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: TextEncoder(words=0), "words 0: must be 1 or more"),
        (lambda: TextEncoder(length=0), "length 0: must be 1 or more"),
        (lambda: TextEncoder(transformer=Transformer(8, 1, 2, context=3)), "transformer: a reader of captions"),
        (lambda: TextEncoder(transformer=Transformer(8, 1, 2, causal=True)), "transformer: a reader of captions"),
        (lambda: TextEncoderNetwork(SMALL)(torch.zeros(2, 4, dtype=torch.int64)), r"captions \(2, 4\): .* rows of 5 tokens"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(call, sentence):
    with pytest.raises(InputError, match=sentence):
        call()


def test_a_token_that_does_not_exist_is_refused():
    with pytest.raises(IndexError):
        TextEncoderNetwork(SMALL)(torch.full((1, 5), 9))


def test_the_sizes_are_part_of_a_recipe():
    assert recipe_io.from_dict(TextEncoder, recipe_io.to_dict(SMALL)) == SMALL
