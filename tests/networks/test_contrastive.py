"""Pictures and captions as unit vectors, by the formulas of the paper."""

import math

import pytest
import torch
from torch.nn import functional as F

from gencore.errors import InputError
from gencore.networks.autoencoder import Autoencoder
from gencore.networks.contrastive import COLDEST, Contrastive, ContrastiveNetwork
from gencore.networks.places import Places
from gencore.networks.text import TextEncoder
from gencore.networks.transformer import Transformer
from tests.networks.writing import awake

pytestmark = pytest.mark.usefixtures("double_precision")

STACK = Transformer(8, 1, 2, mlp_ratio=2)
LOOKING = Places(Autoencoder(size=8, channels=3, latent=8, flat=False, width=8, multipliers=(1, 2)), STACK)
CONFIG = Contrastive(LOOKING, TextEncoder(words=6, length=5, transformer=STACK), width=4)
CAPTIONS = torch.tensor([[3, 2, 0, 0, 0], [5, 1, 4, 0, 2], [0, 0, 0, 0, 0], [1, 2, 3, 4, 5]])


def make():
    torch.manual_seed(0)
    return awake(ContrastiveNetwork(CONFIG)), torch.rand(3, 3, 8, 8) * 2 - 1


def test_the_vectors_written_plainly():
    """The mean over places, and the first end of the caption; without one, the last word."""
    network, x = make()
    w = dict(network.named_parameters())
    pictures, captions = network(x, CAPTIONS)
    expected = F.linear(network.picture(x).sum(1) / 16, w["of_picture.weight"])
    torch.testing.assert_close(pictures, expected / expected.square().sum(1, keepdim=True).sqrt())
    words = network.text(CAPTIONS)
    ends = torch.stack([words[0, 2], words[1, 3], words[2, 0], words[3, 4]])
    expected = F.linear(ends, w["of_text.weight"])
    torch.testing.assert_close(captions, expected / expected.square().sum(1, keepdim=True).sqrt())


def test_the_temperature_begins_at_0_07_and_ends_at_the_coldest():
    network = ContrastiveNetwork(CONFIG)
    assert network.scale.item() == pytest.approx(1 / 0.07)
    with torch.no_grad():
        network.log_scale.fill_(math.log(COLDEST) + 1)
    assert network.scale.item() == COLDEST == 100


def test_every_parameter_learns():
    network, x = make()
    pictures, captions = network(x, CAPTIONS)
    (network.scale * (pictures @ captions.T * torch.randn(3, 4)).sum()).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_vectors_are_float32_whatever_the_network_is():
    network = ContrastiveNetwork(CONFIG).float()
    with torch.autocast("cpu", torch.bfloat16):
        assert {v.dtype for v in network(torch.rand(2, 3, 8, 8).float(), CAPTIONS)} == {torch.float32}


@pytest.mark.parametrize(("change", "message"), [(dict(width=0), "width 0"), (dict(end=6), "end 6"), (dict(end=-1), "end -1")])
def test_nonsense_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        Contrastive(**{"text": CONFIG.text, **change})
