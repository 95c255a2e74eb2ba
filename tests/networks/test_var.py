"""The transformer over scales: who hears whom, the same once more written plainly, and scale by scale."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from gencore.errors import InputError
from gencore.networks.embeddings import sinusoidal_grid
from gencore.networks.transformer import Transformer
from gencore.networks.var import VAR, VARNetwork

pytestmark = pytest.mark.usefixtures("double_precision")

STACK = Transformer(width=8, depth=2, heads=2, mlp_ratio=3)
TINY = VAR((1, 2, 3), levels=5, dimension=3, transformer=STACK, conditions=(4, 3))
NEAR = replace(TINY, near=1)
SPANS = [slice(0, 1), slice(1, 5), slice(5, 14)]


def awake(config=TINY):
    torch.manual_seed(0)
    network = VARNetwork(config)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return network


def told(batch=2):
    return torch.tensor([[0, 2], [3, 1], [4, 3]])[:batch]  # the last: nothing is told


def inputs(batch=2, seed=1):
    torch.manual_seed(seed)
    return torch.randn(batch, 13, 3)


@pytest.mark.parametrize("near", [0, 1, 2])
def test_a_network_written_plainly(near):
    """Figure 4 of the paper with the blocks of `test_transformer`, scale by scale and token by token."""
    network, x, cond = awake(replace(TINY, near=near)), inputs(), told()
    w = dict(network.named_parameters())

    def norm(h, name):
        h = (h - h.mean(2, keepdim=True)) / (h.var(2, correction=0, keepdim=True) + 1e-5).sqrt()
        return h * w[f"{name}.weight"] + w[f"{name}.bias"]

    first = w["told.tables.0.weight"][cond[:, 0]] + w["told.tables.1.weight"][cond[:, 1]] + w["start"]
    words = x @ w["word.weight"].T + w["word.bias"]
    for side, start in ((2, 0), (3, 4)) if near else ():  # the convolution over neighbours of the same scale
        for row, column in itertools.product(range(side), range(side)):
            words[:, start + side * row + column] += w["around.bias"]
            for down, right in itertools.product(range(-near, near + 1), repeat=2):
                if 0 <= row + down < side and 0 <= column + right < side:
                    neighbour = x[:, start + side * (row + down) + column + right]
                    words[:, start + side * row + column] += neighbour @ w["around.weight"][:, :, near + down, near + right].T
    h = torch.cat([first[:, None], words], 1)
    h = h + w["level.weight"][[0] + 4 * [1] + 9 * [2]]
    fine = sinusoidal_grid(3, 3, 8)
    torch.testing.assert_close(network.places[5:].float(), fine.float())
    torch.testing.assert_close(network.places[0].float(), fine[4].float())  # the middle of all
    quarter = torch.tensor([0.25, 0.25, 1.75, 1.75]), torch.tensor([0.25, 1.75, 0.25, 1.75])
    frequencies = torch.tensor([1.0, 0.01])
    halves = [torch.cat([(p[:, None] * frequencies).sin(), (p[:, None] * frequencies).cos()], 1) for p in quarter]
    torch.testing.assert_close(network.places[1:5], torch.cat(halves, 1).to(network.places.dtype))
    h = h + network.places
    for number in range(2):
        name, a = f"body.blocks.{number}", norm(h, f"body.blocks.{number}.norm1")
        key, value = w[f"{name}.attention.key_value.weight"].split(8)
        gathered = torch.zeros_like(h)
        for span in SPANS:  # a scale hears itself and all before
            heard = a[:, : span.stop]
            for part in (slice(0, 4), slice(4, 8)):
                q = a[:, span] @ w[f"{name}.attention.query.weight"][part].T
                k, v = heard @ key[part].T, heard @ value[part].T
                gathered[:, span, part] = (q @ k.transpose(1, 2) / 2).softmax(2) @ v
        h = h + gathered @ w[f"{name}.attention.out.weight"].T + w[f"{name}.attention.out.bias"]
        hidden = F.gelu(norm(h, f"{name}.norm2") @ w[f"{name}.mlp.0.weight"].T + w[f"{name}.mlp.0.bias"])
        h = h + hidden @ w[f"{name}.mlp.2.weight"].T + w[f"{name}.mlp.2.bias"]
    expected = norm(h, "body.norm") @ w["head.weight"].T + w["head.bias"]
    assert expected.shape == (2, 14, 5)
    torch.testing.assert_close(network(x, cond), expected)


@pytest.mark.parametrize("config", [TINY, NEAR])
def test_a_scale_hears_itself_and_those_before(config):
    """Derivatives of each code's logits by each input: exactly zero for later scales, and for no other."""
    network = awake(config)
    jacobian = torch.autograd.functional.jacobian(lambda x: network(x, told(1)), inputs(1))
    size = jacobian.square().sum((0, 2, 3, 5)).sqrt()  # (14, 13), logits by inputs; there is none for the first scale
    later = torch.zeros(14, 13, dtype=torch.bool)
    later[0:1, 0:] = True
    later[1:5, 4:] = True
    assert (size[later] == 0).all()
    assert (size[~later] > 0).all()


def test_what_is_told_reaches_every_code():
    network, x = awake(), inputs(1).expand(3, -1, -1)
    said = network(x, told(3))
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert ((said[one] - said[other]).abs().amax(1) > 1e-6).all()
    assert torch.equal(network(x, None)[2], said[2])


@pytest.mark.parametrize("config", [TINY, NEAR, replace(NEAR, scales=(2, 3)), replace(TINY, scales=(2,)), replace(TINY, conditions=())])
def test_scale_by_scale_equals_all_at_once(config):
    network, cond = awake(config), told() if config.conditions else None
    sides, x = config.scales, torch.randn(2, sum(side**2 for side in config.scales[1:]), 3)
    whole, at = network(x, cond), network.incremental(cond, 2)
    pieces = [at(part) for part in (None, *x.split([side**2 for side in sides[1:]], 1))]
    assert [piece.shape[1] for piece in pieces] == [side**2 for side in sides]
    torch.testing.assert_close(torch.cat(pieces, 1), whole)


def test_scale_by_scale_computes_each_token_once():
    network, counted = awake(), []
    network.body.blocks[0].attention.key_value.register_forward_hook(lambda _, given, __: counted.append(given[0].shape[1]))
    at = network.incremental(told(), 2)
    for part in (None, *inputs().split([4, 9], 1)):
        at(part)
    assert counted == [1, 4, 9]


def test_a_picture_does_not_see_another():
    network = awake()
    torch.testing.assert_close(network(inputs(), told())[1:], network(inputs()[1:], told()[1:]))


@pytest.mark.parametrize("config", [TINY, NEAR])
def test_every_parameter_gets_a_gradient(config):
    torch.manual_seed(0)
    network = VARNetwork(config)
    (network(inputs(3), told(3)) * torch.randn(3, 14, 5)).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())


def test_dropout_leaves_out_channels_of_what_parts_add():
    """With all but one part of one block left out, what remains is that part alone."""
    network, x = awake(replace(TINY, drop=0.5)), inputs()
    assert network.config.noise_shape == (2, 2, 8) and TINY.noise_shape == ()
    assert torch.equal(network(x, told()), awake()(x, told()))
    assert torch.equal(awake()(x, told(), torch.zeros(2, 0)), network(x, told()))
    u = torch.zeros(2, 2, 2, 8)  # all of it is left out
    h = torch.cat([network._first(told(), 2), network.word(x)], 1) + network.level(network.scale) + network.places
    torch.testing.assert_close(network(x, told(), u), network.head(network.body.norm(h)))
    u[:, 0, 1] = 0.5  # the first block's layers speak, twice as loud
    block = network.body.blocks[0]
    torch.testing.assert_close(
        network(x, told(), u), network.head(network.body.norm(h + 2 * block.mlp(block.norm2(h))))
    )


def test_half_precision_gives_nearly_the_same():
    network = awake().float()
    x = inputs().float()
    with torch.autocast("cpu", torch.bfloat16):
        half = network(x, told())
    full = network(x, told())
    assert (half.float() - full).norm() < 0.05 * full.norm()


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (dict(scales=()), "scales"),
        (dict(scales=(2, 1)), "scales"),
        (dict(levels=1), "levels 1"),
        (dict(dimension=0), "dimension 0"),
        (dict(transformer=Transformer(width=6, heads=2)), "transformer.width 6"),
        (dict(transformer=Transformer(causal=True)), "causal"),
        (dict(transformer=Transformer(context=3)), "context"),
        (dict(near=-1), "near -1: must be 0 or more"),
        (dict(drop=1.0), "drop 1"),
        (dict(drop=-0.1), "drop -0.1"),
        (dict(conditions=(4, 0)), "conditions"),
    ],
)
def test_sizes_that_make_no_network_are_refused(wrong, sentence):
    with pytest.raises(InputError, match=sentence):
        replace(TINY, **wrong)


def test_inputs_and_conditions_that_do_not_fit_are_refused():
    network = awake()
    with pytest.raises(InputError, match=r"inputs of shape \(12, 3\): this network takes \(13, 3\)"):
        network(inputs()[:, 1:], told())
    with pytest.raises(InputError, match="conditions"):
        network(inputs(), told()[:, :1])
