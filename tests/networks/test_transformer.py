import pytest
import torch

from gencore.errors import InputError
from gencore.networks import transformer
from gencore.networks.transformer import Attention, KeyValues, Transformer, TransformerNetwork, dropout_factors

pytestmark = pytest.mark.usefixtures("double_precision")


def jacobian(function, x):
    """Size of the derivative of each output token with respect to each input token, (N, M)."""
    return torch.autograd.functional.jacobian(function, x).square().sum((0, 2, 3, 5)).sqrt()


@pytest.mark.parametrize("causal", [False, True])
def test_self_attention_equals_the_formula(causal):
    """Equation 1 of the paper, head by head, without PyTorch's function."""
    layer, h = Attention(12, 3, causal=causal), torch.randn(2, 5, 12)
    key, value = layer.key_value.weight.chunk(2)
    heads = []
    for part in torch.arange(12).split(4):
        q, k, v = (h @ weight[part].T for weight in (layer.query.weight, key, value))
        scores = q @ k.transpose(1, 2) / 2  # the root of a head's length, 4
        if causal:
            scores += torch.full((5, 5), float("-inf")).triu(1)
        heads.append(scores.exp() / scores.exp().sum(2, keepdim=True) @ v)
    torch.testing.assert_close(layer(h), layer.out(torch.cat(heads, 2)))


def test_weights_are_those_that_the_layer_uses():
    layer, h, context = Attention(12, 3, context=7), torch.randn(2, 5, 12), torch.randn(2, 9, 7)
    weights = layer.weights(h, context)
    assert weights.shape == (2, 3, 5, 9)
    torch.testing.assert_close(weights.sum(3), torch.ones(2, 3, 5))
    value = layer.key_value(context)[..., 12:].unflatten(2, (3, 4)).transpose(1, 2)  # (2, 3, 9, 4)
    torch.testing.assert_close(layer(h, context), layer.out((weights @ value).transpose(1, 2).flatten(2)))


def test_causal_weights_leave_out_the_future():
    weights = Attention(8, 2, causal=True).weights(torch.randn(1, 6, 8))
    assert (weights[0, :, torch.ones(6, 6).triu(1).bool()] == 0).all()


def test_the_future_has_no_derivative():
    network, future = TransformerNetwork(Transformer(8, 3, 2, causal=True)), torch.ones(6, 6).triu(1).bool()
    size = jacobian(network, torch.randn(1, 6, 8))
    assert (size[future] == 0).all()
    assert (size[~future] > 0).all()


def test_without_a_mask_everything_depends_on_everything():
    assert (jacobian(TransformerNetwork(Transformer(8, 1, 2)), torch.randn(1, 6, 8)) > 0).all()


def test_a_causal_network_sees_its_whole_context():
    network, h = TransformerNetwork(Transformer(8, 1, 2, context=5, causal=True)), torch.randn(1, 4, 8)
    assert (jacobian(lambda context: network(h, context), torch.randn(1, 3, 5)) > 0).all()


def test_shuffled_tokens_give_shuffled_answers():
    """(AT.7), and a context is a bag."""
    network = TransformerNetwork(Transformer(8, 2, 2, context=5))
    h, context, order, other = torch.randn(2, 6, 8), torch.randn(2, 7, 5), torch.randperm(6), torch.randperm(7)
    torch.testing.assert_close(network(h[:, order], context), network(h, context)[:, order], atol=1e-12, rtol=0)
    torch.testing.assert_close(network(h, context[:, other]), network(h, context), atol=1e-12, rtol=0)


def test_a_token_of_the_batch_does_not_see_another_picture():
    network = TransformerNetwork(Transformer(8, 2, 2))
    h = torch.randn(3, 6, 8)
    torch.testing.assert_close(network(h)[:1], network(h[:1]))


@pytest.mark.parametrize("context", [0, 5])
def test_every_parameter_gets_a_gradient(context):
    network = TransformerNetwork(Transformer(8, 2, 2, context=context))
    output = network(torch.randn(2, 6, 8), torch.randn(2, 7, context) if context else None)
    (output * torch.randn_like(output)).sum().backward()
    assert all(p.grad.abs().max() > 0 for p in network.parameters())


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: Transformer(width=10, heads=4), "width 10"),
        (lambda: Transformer(depth=0), "depth 0"),
        (lambda: Transformer(context=-1), "context -1"),
        (lambda: TransformerNetwork(Transformer(8, 1, 2))(torch.zeros(1, 3, 6)), "tokens of length 6"),
        (lambda: TransformerNetwork(Transformer(8, 1, 2))(torch.zeros(1, 3, 8), torch.zeros(1, 2, 8)), "takes 0"),
        (lambda: TransformerNetwork(Transformer(8, 1, 2, context=5))(torch.zeros(1, 3, 8)), "takes 5"),
    ],
)
def test_bad_sizes_are_refused(call, sentence):
    with pytest.raises(InputError, match=sentence):
        call()


def test_a_network_written_plainly():
    """Figure 1 of the paper with normalisation first: every part is added to what it was given."""
    network = TransformerNetwork(Transformer(8, depth=2, heads=2, context=5, causal=True))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    h, context = torch.randn(3, 6, 8), torch.randn(3, 4, 5)

    def norm(a, layer):
        a = a - a.mean(2, keepdim=True)
        return layer.weight * a / (a.square().mean(2, keepdim=True) + 1e-5).sqrt() + layer.bias

    def attend(layer, a, b, mask):
        heads = []
        key, value = layer.key_value.weight.chunk(2)
        for part in (slice(0, 4), slice(4, 8)):
            q, k, v = a @ layer.query.weight[part].T, b @ key[part].T, b @ value[part].T
            heads.append((q @ k.transpose(1, 2) / 2 + mask).softmax(2) @ v)
        return torch.cat(heads, 2) @ layer.out.weight.T + layer.out.bias

    expected, future = h, torch.full((6, 6), float("-inf")).triu(1)
    for block in network.blocks:
        a = norm(expected, block.norm1)
        expected = expected + attend(block.attention, a, a, future)
        expected = expected + attend(block.cross, norm(expected, block.norm_cross), context, 0)
        hidden = norm(expected, block.norm2) @ block.mlp[0].weight.T + block.mlp[0].bias
        hidden = hidden * (1 + torch.erf(hidden / 2**0.5)) / 2  # GELU
        expected = expected + hidden @ block.mlp[2].weight.T + block.mlp[2].bias
    torch.testing.assert_close(network(h, context), norm(expected, network.norm))


@pytest.mark.parametrize("pieces", [(1, 1, 1, 1, 1, 1), (1, 3, 2), (6,)])
def test_remembered_tokens_are_looked_at_like_given_ones(pieces):
    """Token by token it is causal attention at once; tokens that come together see each other, later ones too."""
    layer, h = Attention(12, 3, causal=True), torch.randn(2, 6, 12)
    cache = KeyValues(layer, 2, 6)
    shown = torch.cat([layer(piece, cache=cache) for piece in h.split(pieces, 1)], 1)
    key, value = layer.key_value.weight.chunk(2)
    q, k, v = ((h @ weight.T).unflatten(2, (3, 4)).transpose(1, 2) for weight in (layer.query.weight, key, value))
    until = torch.tensor([sum(pieces[: number + 1]) for number, length in enumerate(pieces) for _ in range(length)])
    scores = (q @ k.transpose(2, 3) / 2).masked_fill(torch.arange(6) >= until[:, None], float("-inf"))
    torch.testing.assert_close(shown, layer.out((scores.softmax(3) @ v).transpose(1, 2).flatten(2)))
    assert torch.allclose(shown, layer(h)) == (max(pieces) == 1)
    assert cache.seen == 6


def test_a_memory_holds_as_many_as_it_was_made_for():
    layer = Attention(12, 3, causal=True)
    cache = KeyValues(layer, 2, 4)
    assert cache.memory.shape == (2, 2, 3, 4, 4) and cache.seen == 0
    k, v = torch.randn(2, 2, 3, 3, 4)
    assert torch.equal(cache.extend(k[:, :, :1], v[:, :, :1]), torch.stack([k, v])[:, :, :, :1])
    assert torch.equal(cache.extend(k[:, :, 1:], v[:, :, 1:]), torch.stack([k, v]))


@pytest.mark.parametrize("context", [0, 5])
def test_a_stack_with_memories_says_token_by_token_what_it_says_at_once(context):
    network = TransformerNetwork(Transformer(8, 3, 2, context=context, causal=True))
    h, given = torch.randn(2, 6, 8), torch.randn(2, 4, context) if context else None
    caches = network.caches(2, 9)  # longer than needed
    assert len(caches) == 3 and len({id(cache) for cache in caches}) == 3
    turns = [network(token, given, caches=caches) for token in h.split(1, 1)]
    torch.testing.assert_close(torch.cat(turns, 1), network(h, given))
    fresh = network(h[:, :1], given, caches=network.caches(2, 6))
    torch.testing.assert_close(fresh, turns[0])


def test_factors_silence_each_part_of_each_block():
    """With zeros attention, or the layers after it, might as well say nothing."""
    h, config = torch.randn(3, 6, 8), Transformer(8, 2, 2)
    for number in range(2):
        for part, layer in enumerate(("attention.out", "mlp.2")):
            network, keep = TransformerNetwork(config), torch.ones(3, 2, 2, 8)
            keep[:, number, part] = 0
            silenced, whole = network(h, keep=keep), network(h)
            last = network.get_submodule(f"blocks.{number}.{layer}")
            last.weight.data.zero_()
            last.bias.data.zero_()
            assert torch.equal(silenced, network(h)) and not torch.allclose(silenced, whole)


def test_factors_belong_to_pictures_and_channels():
    """Restated for one block: each channel of what is added is multiplied, the sum before it is not."""
    network, h, keep = TransformerNetwork(Transformer(8, 1, 2, context=5)), torch.randn(3, 6, 8), torch.rand(3, 1, 2, 8)
    context, block = torch.randn(3, 4, 5), network.blocks[0]
    expected = h + torch.einsum("bnc,bc->bnc", block.attention(block.norm1(h)), keep[:, 0, 0])
    expected = expected + block.cross(block.norm_cross(expected), context)
    expected = expected + torch.einsum("bnc,bc->bnc", block.mlp(block.norm2(expected)), keep[:, 0, 1])
    torch.testing.assert_close(network(h, context, keep), network.norm(expected))
    assert torch.equal(network(h, context, torch.ones(3, 1, 2, 8)), network(h, context))


def test_dropout_leaves_out_a_share_and_keeps_the_mean():
    u, drop = (torch.arange(1000) + 0.5) / 1000, 0.2
    factors = dropout_factors(u, drop)
    assert torch.equal(factors == 0, u < drop) and (factors == 0).sum() == 200
    torch.testing.assert_close(factors.mean(), torch.tensor(1.0))
    torch.testing.assert_close(factors[factors > 0], torch.full((800,), 1.25))
    assert dropout_factors(u.float(), drop).dtype == torch.float32
    assert torch.equal(dropout_factors(u.view(10, 100), 0.0), torch.ones(10, 100))
    assert dropout_factors(torch.tensor([0.0]), drop) == 0 and dropout_factors(torch.tensor([drop]), drop) > 0


@pytest.mark.parametrize("precision", [torch.float32, torch.float64, torch.bfloat16])
def test_a_processor_attends_in_float32_where_it_trains_in_bf16(precision, monkeypatch):
    """PyTorch's gradients of attention in bf16 are slow there; what goes in and comes out keeps its type."""
    seen, plain = [], transformer.scaled_dot_product_attention

    def watched(q, k, v, *rest, **named):
        out = plain(q, k, v, *rest, **named)
        seen.append((q.dtype, out.dtype))
        return out

    monkeypatch.setattr(transformer, "scaled_dot_product_attention", watched)
    q, k, v = torch.randn(3, 2, 2, 5, 4, dtype=torch.float64).to(precision)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        found = transformer.attend(q, k, v, None, causal=True)
    inside = torch.float32 if precision == torch.bfloat16 else precision
    assert seen == [(inside, inside)] and found.dtype == precision
    exact = plain(q.double(), k.double(), v.double(), is_causal=True)
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=2e-2 if precision == torch.bfloat16 else 1e-5)
