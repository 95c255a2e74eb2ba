"""The generator is a U-Net that is told something, its judge a PatchGAN that sees the source too."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gencore.errors import InputError
from gencore.networks.patchgan import PatchGAN
from gencore.networks.translator import PairDiscriminator, Translator, TranslatorNetwork, given
from gencore.networks.unet import UNet
from gencore.training import recipe_io

CONFIG = Translator(UNet(channels=3, width=8, multipliers=(1, 2), embedding=6), (3, 2), dropout=0.4, residual=True)


def loud(config):
    """A network whose every weight counts."""
    torch.manual_seed(0)
    network = TranslatorNetwork(config).double()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return network


def test_a_translator_written_plainly():
    """Told vectors are added up; some entries are dropped, the others enlarged; the source joins the U-Net's output."""
    network = loud(CONFIG)
    x, cond = torch.randn(4, 3, 4, 6, dtype=torch.float64), torch.tensor([[0, 1], [2, 0], [1, 1], [0, 0]])
    noise = torch.rand(4, 6, dtype=torch.float64)
    weights = dict(network.named_parameters())
    for u in (None, noise):
        expected = []
        for image in range(4):
            vector = weights["base"].clone()
            vector += weights["told.tables.0.weight"][cond[image, 0]] + weights["told.tables.1.weight"][cond[image, 1]]
            if u is not None:
                vector = torch.stack([v / 0.6 if p >= 0.4 else 0 * v for v, p in zip(vector, u[image], strict=True)])
            expected.append(x[image] + network.unet(x[image : image + 1], vector[None])[0])
        torch.testing.assert_close(network(x, cond, u), torch.stack(expected))
    assert 0 < (noise < 0.4).sum() < noise.numel()


def test_a_new_residual_translator_changes_nothing_and_another_says_zero():
    x, cond = torch.randn(2, 3, 8, 8), torch.zeros(2, 2, dtype=torch.int64)
    assert torch.equal(TranslatorNetwork(CONFIG)(x, cond), x)
    assert not TranslatorNetwork(replace(CONFIG, residual=False))(x, cond).any()


def test_what_is_told_matters_and_is_not_mixed_up_within_a_batch():
    network, x = loud(CONFIG), torch.randn(1, 3, 4, 4, dtype=torch.float64).expand(6, -1, -1, -1)
    cond = torch.cartesian_prod(torch.arange(3), torch.arange(2))
    made = network(x, cond)
    for one in range(6):
        torch.testing.assert_close(network(x[one : one + 1], cond[one : one + 1]), made[one : one + 1])
        assert all(not torch.allclose(made[one], made[other]) for other in range(one))


def test_a_translator_that_is_told_nothing_needs_no_vector():
    config = Translator(UNet(channels=1, out_channels=3, width=8, multipliers=(1, 2)))
    network = loud(config)
    x = torch.randn(2, 1, 4, 4, dtype=torch.float64)
    assert torch.equal(network(x), network.unet(x)) and network(x).shape == (2, 3, 4, 4)
    assert torch.equal(network(x, torch.empty(2, 0, dtype=torch.int64)), network(x))


@pytest.mark.parametrize("cond", [None, torch.zeros(2, 1, dtype=torch.int64), torch.zeros(1, 2, dtype=torch.int64)])
def test_conditions_that_do_not_fit_are_refused(cond):
    with pytest.raises(InputError, match=r"conditions .*: this network takes \(2, 2\)"):
        TranslatorNetwork(CONFIG)(torch.zeros(2, 3, 8, 8), cond)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(dropout=1.0), "dropout 1.0"), (dict(dropout=-0.1), "dropout -0.1"), (dict(conditions=(0,)), "conditions"),
        (dict(unet=UNet(channels=3)), "unet.embedding 0"), (dict(unet=UNet(channels=3), conditions=()), "embedding 0"),
        (dict(unet=UNet(channels=1, out_channels=3, embedding=6)), "residual: the source has 1 channels, the target 3"),
        (dict(unet=UNet(channels=3, embedding=6, heads=2, context=4)), "unet.context"),
    ],
)  # fmt: skip
def test_sizes_that_make_no_translator_are_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        replace(CONFIG, **wrong)


def test_a_recipe_can_hold_the_sizes():
    assert recipe_io.from_dict(Translator, recipe_io.to_dict(CONFIG)) == CONFIG


def test_given_is_the_source_and_a_map_for_each_value():
    x, cond = torch.randn(2, 1, 2, 3), torch.tensor([[2, 0], [0, 1]])
    found = given(x, cond, (3, 2))
    assert found.shape == (2, 6, 2, 3) and torch.equal(found[:, :1], x)
    told = torch.tensor([[0.0, 0, 1, 1, 0], [1, 0, 0, 0, 1]])
    assert torch.equal(found[:, 1:], told[:, :, None, None].expand(-1, -1, 2, 3))
    assert torch.equal(torch.cat([F.one_hot(cond[:, 0], 3), F.one_hot(cond[:, 1], 2)], 1).float(), told)
    assert given(x, cond[:, :0], ()) is x


def test_the_judge_sees_what_is_given_beside_the_picture():
    torch.manual_seed(0)
    judge = PairDiscriminator(PatchGAN(channels=5, width=8, strided=1)).double()
    y, seen = torch.randn(2, 3, 12, 12, dtype=torch.float64), torch.randn(2, 2, 12, 12, dtype=torch.float64)
    torch.testing.assert_close(judge(y, seen), judge.patches.layers(torch.cat([seen, y], 1)))
    assert judge(y, seen).shape[:2] == (2, 1)
    assert not torch.allclose(judge(y, seen), judge(y, seen.flip(0)))
