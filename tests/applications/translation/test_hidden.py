"""A translator that hides something on purpose is found out."""

import pytest
import torch
from torch import nn

from gencore.applications import translation
from gencore.applications.translation.hidden import (
    AMPLIFIED,
    DISTURBANCES,
    compressed,
    cycle_errors,
    faint_part,
    noisy,
    rounded,
    what_is_read,
)
from gencore.applications.translation.objectives import CycleNetworks
from gencore.data import to_float, to_uint8
from gencore.errors import InputError
from gencore.networks.translator import Translator
from gencore.networks.unet import UNet
from tests.applications.translation.test_loop import CYCLES, PAIRED

FAINT = 0.004  # half a grey level


class Hides(nn.Module):
    """Paints everything nearly grey: the picture is there, 250 times weaker."""

    config = Translator(UNet(channels=3, out_channels=3))

    def __init__(self):
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))

    def forward(self, x, cond=None, noise=None):
        return FAINT * x


class Finds(Hides):
    """Makes everything 250 times stronger."""

    def forward(self, x, cond=None, noise=None):
        return x / FAINT


@pytest.fixture
def hider():
    return CycleNetworks(Hides().eval(), Finds().eval()), CYCLES["cycle"]


@pytest.fixture
def pictures():
    return torch.randint(0, 256, (6, 3, 12, 12), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_a_hidden_picture_comes_back_unless_the_file_has_eight_bits(hider, pictures):
    errors = cycle_errors(hider, pictures)
    assert errors.keys() == DISTURBANCES.keys() and all(each.shape == (6,) for each in errors.values())
    assert errors["nothing"].max() < 1e-5
    assert errors["8 bits"].min() > 0.4
    x, between = to_float(pictures), FAINT * to_float(pictures)
    expected = (rounded(between) / FAINT).clamp(-1, 1) - x
    torch.testing.assert_close(errors["8 bits"], expected.abs().flatten(1).mean(1))


def test_an_honest_cycle_survives_what_is_put_in_between(pictures):
    networks = translation.build(CYCLES["cycle"])  # new and residual: both change nothing
    errors = cycle_errors((networks, CYCLES["cycle"]), pictures)
    assert errors["nothing"].max() < 1e-6 and errors["8 bits"].max() < 1e-6
    assert errors["noise of 8 levels"].mean() == pytest.approx(8 / 127.5 * (2 / torch.pi) ** 0.5, rel=0.15)
    assert errors["noise of 2 levels"].mean() < errors["noise of 8 levels"].mean() / 3
    assert errors["JPEG, quality 90"].mean() < errors["JPEG, quality 50"].mean()


def test_the_way_from_kind_b_goes_the_other_way_round(hider, pictures):
    errors = cycle_errors(hider, to_float(pictures), from_b=True, disturbances={"nothing": lambda x: x})
    expected = FAINT * (to_float(pictures) / FAINT).clamp(-1, 1) - to_float(pictures)
    torch.testing.assert_close(errors["nothing"], expected.abs().flatten(1).mean(1))


class Beyond(Hides):
    """Paints everything white, and the picture on top of white."""

    def forward(self, x, cond=None, noise=None):
        return x + 2


class Below(Hides):
    """Takes away what `Beyond` adds."""

    def forward(self, x, cond=None, noise=None):
        return x - 2


def test_what_lies_beyond_white_comes_back_unless_it_is_held_to_the_range(pictures):
    model, x = (CycleNetworks(Beyond().eval(), Below().eval()), CYCLES["cycle"]), to_float(pictures)
    ways = {"nothing": lambda x: x, "noise": lambda x: x + 0.2}
    free, held = (cycle_errors(model, pictures, disturbances=ways, clamp=clamp) for clamp in (False, True))
    assert free["nothing"].max() < 1e-6
    torch.testing.assert_close(free["noise"], ((x + 0.2).clamp(-1, 1) - x).abs().flatten(1).mean(1))
    torch.testing.assert_close(held["nothing"], (-1 - x).abs().flatten(1).mean(1))  # white, and less two
    torch.testing.assert_close(cycle_errors(model, pictures)["nothing"], held["nothing"])


def test_what_is_read_is_gone_with_the_noise(hider, pictures):
    between, read, drowned = what_is_read(hider, pictures)
    x = to_float(pictures)
    torch.testing.assert_close(between, FAINT * x)
    torch.testing.assert_close(read, x, atol=1e-4, rtol=0)
    assert (drowned - x).abs().mean() > 0.5


def test_noise_belongs_to_the_picture_and_has_its_strength():
    x = torch.zeros(40, 1, 30, 30)
    made = noisy(5)(x)
    assert made.std() * 127.5 == pytest.approx(5, rel=0.03)
    assert torch.equal(noisy(5)(x[:3]), made[:3]) and not torch.equal(noisy(5, seed=1)(x), made)
    assert torch.equal(to_float(to_uint8(made)), made), "a file can hold it"


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_keeps_shape_and_plain_pictures(channels):
    x = torch.full((2, channels, 16, 16), 0.5)
    assert compressed(90)(x).shape == x.shape and (compressed(90)(x) - x).abs().max() < 0.02
    rough = torch.rand(2, channels, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert (compressed(90)(rough) - rough).abs().mean() < (compressed(30)(rough) - rough).abs().mean()
    with pytest.raises(InputError, match="quality 0"):
        compressed(0)


def test_the_faint_part_shows_a_pattern_and_leaves_lines_alone():
    x = torch.full((1, 1, 12, 12), -0.2)
    x[..., 6:] = 0.6
    assert not faint_part(x).any(), "an edge is not faint"
    pattern = x.clone()
    pattern[0, 0, 3, 2] += 0.03
    found = faint_part(pattern)
    assert found[0, 0, 3, 2].item() == pytest.approx(AMPLIFIED * 0.03) and (found != 0).sum() == 1
    pattern[0, 0, 3, 2] += 0.5
    assert not faint_part(pattern).any(), "a bright dot is not faint"


def test_models_of_pairs_do_not_come_back(pictures):
    model = translation.build(PAIRED["styles"]), PAIRED["styles"]
    for ask in (cycle_errors, what_is_read):
        with pytest.raises(InputError, match="only translators of a cycle"):
            ask(model, pictures)
