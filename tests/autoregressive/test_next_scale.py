"""Drawing scale after scale: equal to the slow way, and a distribution over all that can be drawn."""

import itertools

import pytest
import torch
from torch import nn

from gencore.autoregressive.next_scale import draw, draw_scales, log_prob
from gencore.networks.multiscale import MultiScale
from gencore.networks.quantiser import Codebook
from gencore.networks.transformer import Transformer
from gencore.networks.var import VAR, VARNetwork

SCALES = (1, 2, 3)


def models(levels=5, scales=SCALES, conditions=(4,)):
    torch.manual_seed(0)
    quantiser = MultiScale(Codebook(levels), scales, blends=2).build(3)
    network = VARNetwork(VAR(scales, levels, 3, Transformer(8, 2, 2), conditions=conditions))
    for parameter in (*quantiser.parameters(), *network.parameters()):
        nn.init.normal_(parameter, std=0.5)
    return network, quantiser


def uniform(batch=6, count=14):
    return torch.rand(batch, count, generator=torch.Generator().manual_seed(3))


def told(batch=6):
    return torch.arange(batch)[:, None] % 4


def naive(network, quantiser, u, guided, temperature=1.0):
    """Each code by a whole evaluation of the network on all codes so far, by walking up the distribution function."""
    codes = torch.zeros(u.shape, dtype=torch.int64)
    for first, end in ((0, 1), (1, 5), (5, 14)):
        p = (guided(quantiser.inputs(codes)) / temperature).softmax(2)
        for b in range(len(u)):
            for place in range(first, end):
                total, code = p[b, place, 0].item(), 0
                while total <= u[b, place] and code < 4:
                    code += 1
                    total += p[b, place, code].item()
                codes[b, place] = code
    return codes


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_drawing_equals_the_slow_way(temperature):
    network, quantiser = models()
    u, cond = uniform(), told()
    drawn = draw(network, quantiser, cond, u, temperature)
    assert drawn.dtype == torch.int64 and len(drawn.unique(dim=0)) == 6
    assert torch.equal(drawn, naive(network, quantiser, u, lambda x: network(x, cond), temperature))


@pytest.mark.parametrize("untold", [None, torch.full((6, 1), 3)])
def test_guidance_equals_the_slow_way(untold):
    network, quantiser = models()
    u, cond = uniform(), told()

    def guided(x):
        return network(x, untold) + 2.5 * (network(x, cond) - network(x, untold))

    drawn = draw(network, quantiser, cond, u, guidance=2.5, untold=untold)
    assert torch.equal(drawn, naive(network, quantiser, u, guided))
    assert not torch.equal(drawn, draw(network, quantiser, cond, u))


def test_guidance_of_1_is_conditional_and_of_0_unconditional():
    network, quantiser = models()
    u, cond = uniform(), told()
    by_weight = {w: draw(network, quantiser, cond, u, guidance=w) for w in (0.0, 1.0, 1.0 + 1e-6)}
    assert torch.equal(by_weight[1.0 + 1e-6], by_weight[1.0])
    assert torch.equal(by_weight[1.0], naive(network, quantiser, u, lambda x: network(x, cond)))
    assert torch.equal(by_weight[0.0], draw(network, quantiser, None, u))
    assert not torch.equal(by_weight[0.0], by_weight[1.0])


def test_what_is_told_changes_what_is_drawn():
    network, quantiser = models()
    u = uniform()
    assert not torch.equal(draw(network, quantiser, told(), u), draw(network, quantiser, (told() + 1) % 4, u))


def test_one_evaluation_for_each_scale():
    network, quantiser = models()
    lengths = []
    network.head.register_forward_hook(lambda _, given, __: lengths.append(given[0].shape[1]))
    draw(network, quantiser, told(), uniform())
    assert lengths == [1, 4, 9]


def test_each_scale_shows_what_stands_then():
    network, quantiser = models()
    seen = list(draw_scales(network, quantiser, told(), uniform()))
    codes = torch.cat([each.codes for each in seen], 1)
    assert torch.equal(codes, draw(network, quantiser, told(), uniform()))
    for count, each in enumerate(seen, start=1):
        torch.testing.assert_close(each.z, quantiser.partial(codes, count))


def test_the_likeliest_and_the_nucleus():
    network, quantiser = models()
    u, cond = uniform(), told()
    greedy = draw(network, quantiser, cond, u, temperature=0)
    logits = network(quantiser.inputs(greedy), cond)
    assert torch.equal(greedy, logits.argmax(2))
    assert torch.equal(draw(network, quantiser, cond, u, top_p=1e-6), greedy)
    assert not torch.equal(draw(network, quantiser, cond, u, top_p=0.7), draw(network, quantiser, cond, u))


def test_a_picture_hangs_on_its_own_numbers():
    network, quantiser = models()
    whole = draw(network, quantiser, told(), uniform())
    assert torch.equal(draw(network, quantiser, told()[2:], uniform()[2:]), whole[2:])


def test_probabilities_of_all_codes_sum_to_1():
    """Two codewords, scales of 1 and 2: 32 drawings."""
    network, quantiser = models(2, (1, 2))
    codes = torch.tensor(list(itertools.product(range(2), repeat=5)))
    said = log_prob(network, quantiser, codes, told(4)[[1]].expand(32, -1))
    p = said.sum(1).exp()
    assert p.sum().item() == pytest.approx(1, abs=1e-5) and p.max() > 2 * p.min()
    u = torch.rand(20_000, 5, generator=torch.Generator().manual_seed(4))
    drawn = draw(network, quantiser, told(4)[[1]].expand(20_000, -1), u)
    shares = (drawn * torch.tensor([16, 8, 4, 2, 1])).sum(1).bincount(minlength=32) / 20_000
    assert (shares - p).abs().max() < 0.01
    assert (shares - p).norm() < 0.01


def test_log_prob_reads_the_code_that_stands_there():
    network, quantiser = models()
    codes, cond = draw(network, quantiser, told(), uniform()), told()
    expected = network(quantiser.inputs(codes), cond).softmax(2)
    said = log_prob(network, quantiser, codes, cond)
    for b in range(6):
        for place in range(14):
            assert said[b, place].exp().item() == pytest.approx(expected[b, place, codes[b, place]].item(), rel=1e-4)
    (-said.mean()).backward()
    assert network.word.weight.grad.any() and all(p.grad is None for p in quantiser.parameters())
