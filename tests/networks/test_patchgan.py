import pytest
import torch
from torch.nn import functional as F

from gencore.errors import InputError
from gencore.networks.patchgan import PatchDiscriminator, PatchGAN


def build(**sizes):
    torch.manual_seed(0)
    return PatchDiscriminator(PatchGAN(**sizes))


def test_the_paper_s_network():
    config = PatchGAN()
    assert config.widths == [64, 128, 256, 512] and config.patch == 70
    assert build()(torch.zeros(1, 3, 256, 256)).shape == (1, 1, 30, 30)
    assert [PatchGAN(strided=n).patch for n in (1, 2)] == [16, 34]


def test_it_is_what_the_paper_writes_down():
    network = build(channels=1, width=8, strided=2)
    x = torch.randn(2, 1, 32, 32)
    w = dict(network.layers.named_parameters())
    with torch.no_grad():
        w["3.weight"].mul_(1.7)  # so that gains and shifts are seen
        w["3.bias"].add_(0.3)
    h = F.leaky_relu(F.conv2d(x, w["0.weight"], w["0.bias"], 2, 1), 0.2)
    for conv, norm, stride in (("2", "3", 2), ("5", "6", 1)):
        h = F.conv2d(h, w[f"{conv}.weight"], w[f"{conv}.bias"], stride, 1)
        h = F.leaky_relu(F.group_norm(h, 8, w[f"{norm}.weight"], w[f"{norm}.bias"]), 0.2)
    torch.testing.assert_close(network(x), F.conv2d(h, w["8.weight"], w["8.bias"], 1, 1))


@pytest.mark.parametrize("strided", [1, 2])
def test_a_verdict_sees_its_patch(strided):
    network = build(width=8, strided=strided)
    for module in network.modules():
        if isinstance(module, torch.nn.GroupNorm):  # sees the whole map; a patch is what the convolutions see
            module.forward = lambda h: h
    x = torch.randn(1, 3, 64, 64, requires_grad=True)
    verdicts = network(x)
    place = verdicts.shape[2] // 2
    (gradient,) = torch.autograd.grad(verdicts[0, 0, place, place], x)
    rows = gradient.abs().sum((0, 1, 3)).nonzero().flatten()
    assert rows[-1] - rows[0] + 1 == PatchGAN(strided=strided).patch


def test_a_verdict_does_not_depend_on_the_batch():
    network, x = build(width=8, strided=1), torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(network(x)[1:2], network(x[1:2]))


def test_first_weights():
    network = build()
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.1) and not module.bias.any()


@pytest.mark.parametrize("field", ["channels", "width", "strided"])
def test_bad_sizes_are_named(field):
    with pytest.raises(InputError, match=field):
        PatchGAN(**{field: 0})
