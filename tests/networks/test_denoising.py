import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gencore.errors import InputError
from gencore.networks.denoising import DenoisingUNet, DenoisingUNetNetwork, Teller
from gencore.networks.embeddings import sinusoidal
from gencore.networks.unet import UNet
from gencore.training import recipe_io

SMALL = DenoisingUNet(size=8, unet=UNet(3, width=8, multipliers=(1, 2), embedding=6), conditions=(4, 2))


def awake(config, seed=0):
    """A network in which nothing is zero any more."""
    torch.manual_seed(seed)
    network = DenoisingUNetNetwork(config)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return network.double()


def case(batch=5):
    generator = torch.Generator().manual_seed(1)
    x_t = torch.randn(batch, 3, 8, 8, generator=generator, dtype=torch.float64)
    cond = torch.stack([torch.arange(batch) % 5, torch.arange(batch) % 3], 1)
    return x_t, torch.linspace(0, 1, batch, dtype=torch.float64), cond


def test_shapes():
    network, (x_t, t, cond) = awake(SMALL), case()
    assert network(x_t, t, cond).shape == x_t.shape
    assert SMALL.channels == 3
    plain = DenoisingUNet(size=8, unet=SMALL.unet)
    assert awake(plain)(x_t, t).shape == awake(plain)(x_t, t, cond[:, :0]).shape == x_t.shape


def test_what_is_told_written_plainly():
    """Two linear maps of sines and cosines of 1000 t, and a row of each condition's table, all added up."""
    torch.manual_seed(0)
    teller, (_, t, cond) = Teller((4, 2), 6).double(), case()
    time = teller.time.layers
    expected = F.silu(sinusoidal(1000 * t, 6) @ time[0].weight.T + time[0].bias) @ time[2].weight.T + time[2].bias
    expected = expected + F.embedding(cond[:, 0], teller.tables[0].weight) + F.embedding(cond[:, 1], teller.tables[1].weight)
    torch.testing.assert_close(teller(t, cond), expected)
    assert [len(table.weight) for table in teller.tables] == [5, 3]


def test_the_network_is_a_unet_that_is_told():
    network, (x_t, t, cond) = awake(SMALL), case()
    assert torch.equal(network(x_t, t, cond), network.unet(x_t, network.teller(t, cond)))


def test_the_last_row_means_not_told():
    network, (x_t, t, _) = awake(SMALL), case()
    untold = torch.tensor([[4, 2]]).expand(5, 2)
    assert torch.equal(network(x_t, t, untold), network(x_t, t))
    half = torch.tensor([[4, 1]]).expand(5, 2)
    assert (network(x_t, t, half) - network(x_t, t)).abs().amax((1, 2, 3)).min() > 1e-3


def test_every_image_has_its_own_time_and_conditions():
    network, (x_t, t, cond) = awake(SMALL), case()
    whole = network(x_t, t, cond)
    for i in range(5):
        torch.testing.assert_close(network(x_t[i : i + 1], t[i : i + 1], cond[i : i + 1]), whole[i : i + 1])
    same = network(x_t[:1].expand(5, -1, -1, -1), t, cond)
    assert all((same[i] - same[j]).abs().max() > 1e-3 for i in range(5) for j in range(i))
    for column in range(2):
        other = cond.clone()
        other[:, column] = (other[:, column] + 1) % (4, 2)[column]
        assert (network(x_t, t, other) - whole).abs().amax((1, 2, 3)).min() > 1e-4
    assert (network(x_t, t.flip(0), cond) - whole).abs().amax((1, 2, 3))[[0, 1, 3, 4]].min() > 1e-3


def test_only_the_rows_that_are_told_learn():
    network, (x_t, t, _) = awake(SMALL), case()
    network(x_t, t, torch.tensor([[1, 0], [1, 2], [3, 2], [3, 2], [1, 0]])).square().sum().backward()
    assert network.teller.tables[0].weight.grad.any(1).tolist() == [False, True, False, True, False]
    assert network.teller.tables[1].weight.grad.any(1).tolist() == [True, False, True]


@pytest.mark.parametrize("cond", [torch.zeros(5, 1), torch.zeros(5, 3), torch.zeros(1, 2), torch.zeros(5)])
def test_conditions_that_do_not_fit_are_refused(cond):
    x_t, t, _ = case()
    with pytest.raises(InputError, match=r"conditions .*this network takes \(5, 2\)"):
        awake(SMALL)(x_t, t, cond.long())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(size=9), "size 9: this U-Net takes multiples of 2"),
        (dict(unet=UNet(embedding=0)), "unet.embedding 0"),
        (dict(unet=UNet(embedding=7)), "unet.embedding 7"),
        (dict(conditions=(3, 0)), "conditions"),
    ],
)
def test_sizes_that_make_no_network_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        DenoisingUNet(**{"size": 8, "unet": SMALL.unet, **fields})


def test_a_recipe_can_hold_the_sizes():
    assert recipe_io.from_dict(DenoisingUNet, recipe_io.to_dict(SMALL)) == SMALL
