"""A caption, then its picture: each place knows the whole caption and the codes before it, and no word knows what comes later."""

import pytest
import torch
from torch.nn import functional as F

from gencore.errors import InputError
from gencore.networks.caption_transformer import CaptionTransformer, CaptionTransformerNetwork
from gencore.networks.image_transformer import ImageTransformer
from gencore.networks.symbols import Grid
from gencore.networks.transformer import Transformer, dropout_factors
from tests.networks import writing
from tests.networks.writing import awake

pytestmark = pytest.mark.usefixtures("double_precision")

STACK = Transformer(8, depth=2, heads=2, causal=True, mlp_ratio=2)
NEAR = CaptionTransformer(ImageTransformer(Grid(4, levels=5, named=True), STACK, near=1, drop=0.25), words=6, length=3)
NEXT = CaptionTransformer(ImageTransformer(Grid(3, levels=4, named=True), STACK), words=5, length=4)
ALL = pytest.mark.parametrize("config", [NEAR, NEXT])


def make(config):
    torch.manual_seed(1)
    captions = torch.randint(config.words, (3, config.length))
    return awake(CaptionTransformerNetwork(config)), torch.randint(config.grid.levels, (3, *config.grid.shape)), captions


@ALL
def test_a_network_written_plainly(config):
    """Start, words, and symbols with their places, in one row through one stack; two heads, each for its own part."""
    network, symbols, captions = make(config)
    w, length = dict(network.named_parameters()), config.length
    row = [w["start"][0, 0].expand(3, -1)]
    row += [w["words.weight"][captions[:, i]] + w["places"][i] for i in range(length)]
    row += list(network.picture.tokens(w["picture.table.weight"][symbols[:, 0]]).flatten(1, 2).unbind(1))
    h = network.picture.body(torch.stack(row, 1))
    of_words = F.linear(h[:, :length], w["head.weight"], w["head.bias"])
    of_symbols = F.linear(h[:, length + 1 :], w["picture.head.weight"], w["picture.head.bias"])
    picture, said = network(symbols, captions, None, True)
    torch.testing.assert_close(said, of_words)
    torch.testing.assert_close(picture.flatten(2).transpose(1, 2), of_symbols)
    assert torch.equal(network(symbols, captions), picture)


@ALL
def test_it_says_the_same_place_by_place(config):
    writing.check_written_in_turn(*make(config))


@ALL
def test_rows_and_parameters(config):
    network, symbols, captions = make(config)
    writing.check_rows(network, symbols, captions)
    picture, said = network(symbols, captions, None, True)
    ((picture * torch.randn_like(picture)).sum() + (said * torch.randn_like(said)).sum()).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_probabilities_of_all_pictures_and_captions_sum_to_one():
    small = CaptionTransformer(ImageTransformer(Grid(2, levels=2, named=True), STACK, near=1), words=3, length=2)
    network = awake(CaptionTransformerNetwork(small))
    writing.check_probabilities(network, (1, 2))
    captions = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    said = network(torch.zeros(9, 1, 2, 2, dtype=torch.int64), captions, None, True)[1].log_softmax(2)
    torch.testing.assert_close(said.gather(2, captions[:, :, None]).sum((1, 2)).exp().sum(), torch.tensor(1.0))


def test_every_word_reaches_every_place_and_none_the_words_before():
    """The last word too: it comes before the first symbol."""
    network, symbols, captions = make(NEAR)
    with torch.no_grad():
        picture, said = network(symbols, captions, None, True)
        for number in range(NEAR.length):
            other = captions.clone()
            other[:, number] = (captions[:, number] + 1) % NEAR.words
            changed, said_then = network(symbols, other, None, True)
            assert ((changed - picture).abs().amax(1) > 1e-9).all()
            assert torch.equal(said_then[:, : number + 1], said[:, : number + 1])
            assert number == NEAR.length - 1 or not torch.allclose(said_then[:, number + 1 :], said[:, number + 1 :])
        assert torch.equal(network((symbols + 1) % 5, captions, None, True)[1], said)  # words know nothing of the picture


def test_what_is_left_out():
    network, symbols, captions = make(NEAR)
    u = torch.rand(3, *NEAR.noise_shape)
    picture = network(symbols, captions, u)
    assert not torch.allclose(picture, network(symbols, captions))
    plain = torch.full_like(u, 0.5)
    kept = dropout_factors(plain, 0.25)
    assert kept.unique().tolist() == [pytest.approx(4 / 3)]
    assert not torch.allclose(network(symbols, captions, plain), network(symbols, captions))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(words=0), "words 0: must be 1 or more"),
        (dict(length=0), "length 0"),
        (dict(picture=ImageTransformer(Grid(4, conditions=(3,)), STACK)), "picture.grid.conditions"),
    ],
)
def test_nonsense_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        CaptionTransformer(**change)


def test_captions_that_do_not_fit_are_refused():
    network, symbols, captions = make(NEAR)
    for wrong in (captions[:, :2], None):
        with pytest.raises(InputError, match="reads rows of 3 tokens"):
            network(symbols, wrong)
    with pytest.raises(InputError, match="symbols of shape"):
        network(symbols[:, :, :3], captions)
    with pytest.raises(InputError, match="symbols of shape"):
        network.incremental(symbols[:, :, :3], captions)
