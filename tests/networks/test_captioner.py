"""Words from a picture: each knows the picture and the words before it; where it looks sums to 1."""

import pytest
import torch
from torch.nn import functional as F

from gencore.errors import InputError
from gencore.networks.autoencoder import Autoencoder
from gencore.networks.captioner import Captioner, CaptionerNetwork
from gencore.networks.places import Places
from gencore.networks.transformer import Transformer
from tests.networks.writing import awake

pytestmark = pytest.mark.usefixtures("double_precision")

LOOKING = Places(Autoencoder(size=8, channels=3, latent=6, flat=False, width=8, multipliers=(1, 2)))
STACK = Transformer(8, 2, 2, context=6, causal=True, mlp_ratio=2)
CONFIG = Captioner(LOOKING, STACK, words=7, length=4, languages=2, drop=0.25)


def make():
    network = awake(CaptionerNetwork(CONFIG))
    torch.manual_seed(1)
    return network, torch.rand(3, 3, 8, 8) * 2 - 1, torch.randint(7, (3, 4)), torch.tensor([0, 1, 1])


def test_a_network_written_plainly():
    """A beginning for each language, the words before, their order; the table of words is also the last layer."""
    network, x, captions, language = make()
    w = dict(network.named_parameters())
    row = [w["begin.weight"][language], *w["table.weight"][captions[:, :3]].unbind(1)]
    tokens = torch.stack([token + w["order"][i] for i, token in enumerate(row)], 1)
    h = network.body(tokens, network.picture(x))
    torch.testing.assert_close(network(x, captions, language), F.linear(h, w["table.weight"]) + w["bias"])


def test_it_says_the_same_word_by_word():
    network, x, captions, language = make()
    whole, places, caches = network(x, captions, language), network.picture(x), network.body.caches(3, 4)
    with torch.no_grad():
        for number in range(4):
            before = captions[:, number - 1] if number else torch.full((3,), 5)
            torch.testing.assert_close(network.next(places, caches, number, before, language), whole[:, number])


def test_a_word_knows_those_before_it_only_and_the_whole_picture():
    network, x, captions, language = make()
    whole = network(x, captions, language)
    for number in range(4):
        other = captions.clone()
        other[:, number] = (captions[:, number] + 1) % 7
        changed = network(x, other, language)
        torch.testing.assert_close(changed[:, : number + 1], whole[:, : number + 1], rtol=0, atol=0)
        assert number == 3 or not torch.allclose(changed[:, number + 1 :], whole[:, number + 1 :])
    assert not torch.allclose(network(x, captions, 1 - language)[:, 0], whole[:, 0])
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(network(x, captions, language)[:, 0].square().sum(), x)
    assert gradient.ne(0).any(1).all()


def test_where_it_looks():
    """Written plainly for the first block; maps are means over blocks and heads, and each sums to 1."""
    network, x, captions, language = make()
    maps = network.looks(x, captions, language)
    assert maps.shape == (3, 4, 4, 4)
    torch.testing.assert_close(maps.sum((2, 3)), torch.ones(3, 4))
    single = CaptionerNetwork(Captioner(LOOKING, Transformer(8, 1, 1, context=6, causal=True, mlp_ratio=2), 7, 4, 2))
    awake(single)
    block, places = single.body.blocks[0], single.picture(x)
    tokens = torch.cat([single.begin(language)[:, None], single.table(captions[:, :3])], 1) + single.order
    asking = block.norm_cross(tokens + block.attention(block.norm1(tokens)))
    scores = block.cross.query(asking) @ block.cross.key_value(places)[:, :, :8].transpose(1, 2) / 8**0.5
    torch.testing.assert_close(single.looks(x, captions, language).flatten(2), scores.softmax(2))
    tokens = torch.cat([network.begin(language)[:, None], network.table(captions[:, :3])], 1) + network.order
    first, second = network.body.blocks
    expected, h = [], tokens
    for block in (first, second):
        asking = block.norm_cross(h + block.attention(block.norm1(h)))
        expected.append(block.cross.weights(asking, network.picture(x)).mean(1))
        h = block(h, network.picture(x))
    torch.testing.assert_close(maps.flatten(2), (expected[0] + expected[1]) / 2)


def test_every_parameter_learns_and_what_is_left_out_matters():
    network, x, captions, language = make()
    logits = network(x, captions, language)
    (logits * torch.randn_like(logits)).sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert CONFIG.noise_shape == (2, 2, 8) and Captioner().noise_shape == ()
    assert not torch.allclose(network(x, captions, language, torch.rand(3, 2, 2, 8)), logits)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(words=0), "words 0"),
        (dict(length=0), "length 0"),
        (dict(languages=0), "languages 0"),
        (dict(drop=1.0), "drop 1.0"),
        (dict(transformer=Transformer(8, 1, 2, context=5, causal=True)), "context 6"),
        (dict(transformer=Transformer(8, 1, 2, context=6)), "must be causal"),
    ],
)
def test_nonsense_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        Captioner(**{"picture": LOOKING, "transformer": STACK, **change})


def test_captions_of_another_length_are_refused():
    network, x, captions, language = make()
    with pytest.raises(InputError, match="writes rows of 4 words"):
        network(x, captions[:, :3], language)
