import pytest
import torch

from gencore.errors import InputError
from gencore.networks.transformer import Attention, Transformer, TransformerNetwork

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
