"""What translators and judges minimise, held to the papers' equations written plainly."""

import pytest
import torch
from torch import nn
from torch.nn.functional import softplus

from gencore.applications.translation.objectives import (
    CycleDraw,
    CycleNetworks,
    cross,
    cycle_generators_loss,
    cycle_judges_loss,
    cycle_loss,
    judge_of_pairs_loss,
    judged,
    translation_loss,
)
from gencore.gan.augmentation import Augmentation
from gencore.gan.objectives import LeastSquares, NonSaturating
from gencore.gan.penalties import R1

pytestmark = pytest.mark.usefixtures("double_precision")
CHANGE = Augmentation(colour=0.0, shift=0.3, hole=0.4)


class Judge(nn.Module):
    """A verdict for each pixel, linear in the picture and in what is given."""

    def __init__(self, channels, seen=0):
        super().__init__()
        self.picture, self.seen = nn.Conv2d(channels, 1, 1), nn.Conv2d(seen, 1, 1) if seen else None

    def forward(self, y, given=None):
        return self.picture(y) + (self.seen(given) if given is not None else 0)


class Affine(nn.Module):
    """Channels mixed, and something added."""

    def __init__(self, channels, out):
        super().__init__()
        self.mix = nn.Conv2d(channels, out, 1)

    def forward(self, x):
        return self.mix(x)


def pictures(*shape):
    return torch.randn(*shape)


def test_the_judge_of_pairs_minimises_the_cross_entropy_and_the_slope():
    judge, y, fake, seen = Judge(3, 2), pictures(2, 3, 4, 4), pictures(2, 3, 4, 4).requires_grad_(), pictures(2, 2, 4, 4)
    loss = judge_of_pairs_loss(NonSaturating(), R1(gamma=0.5, every=3), judge, y, fake, seen)
    on_real, on_fake = judge(y, seen), judge(fake, seen)
    expected = softplus(-on_real).mean() + softplus(on_fake).mean()
    slope = 16 * judge.picture.weight.square().sum()  # the same in all 16 pixels
    torch.testing.assert_close(loss.total, expected + 3 * 0.25 * slope)
    torch.testing.assert_close(loss.parts["r1"], slope)
    loss.total.backward()
    assert fake.grad is None, "the generator hears nothing of it"
    plain = judge_of_pairs_loss(NonSaturating(), None, judge, y, fake, seen)
    torch.testing.assert_close(plain.total, expected)


def test_the_generator_of_pairs_minimises_distance_and_verdict():
    judge, y, fake, seen = Judge(3, 2), pictures(2, 3, 4, 4), pictures(2, 3, 4, 4), pictures(2, 2, 4, 4)
    shown = pictures(2, 3, 4, 4), pictures(2, 3, 4, 4), seen
    loss = translation_loss(NonSaturating(), 0.7, 30.0, judge, y, fake, shown)
    distance = sum((fake - y).abs().flatten()) / y.numel()
    verdict = softplus(-judge(shown[1], seen)).mean()
    torch.testing.assert_close(loss.total, 30 * distance + 0.7 * verdict)
    torch.testing.assert_close(loss.parts["l1"], distance)
    torch.testing.assert_close(loss.parts["generator"], verdict)
    alone = translation_loss(NonSaturating(), 0.0, 30.0, None, y, fake, None)
    torch.testing.assert_close(alone.total, 30 * distance)
    assert set(alone.parts) == {"l1"}


def test_the_judge_is_shown_pairs_that_are_changed_as_a_whole():
    x, y, cond, u = pictures(3, 1, 10, 10), pictures(3, 2, 10, 10), torch.tensor([[0], [2], [1]]), torch.rand(3, 7)
    picture, seen = judged(x, cond, y, (3,), CHANGE, u)
    torch.testing.assert_close(picture, CHANGE(y, u))
    torch.testing.assert_close(seen[:, :1], CHANGE(x, u))
    told = torch.eye(3)[cond[:, 0]][:, :, None, None].expand(-1, -1, 10, 10)
    torch.testing.assert_close(seen[:, 1:], told)
    picture, seen = judged(x, cond, y, (3,), None, u)
    assert torch.equal(picture, y) and torch.equal(seen[:, :1], x)


@pytest.fixture
def cycle():
    there, back = Affine(2, 2), Affine(2, 2)
    a, b = pictures(3, 2, 6, 6), pictures(3, 2, 6, 6)
    return CycleNetworks(there, back), a, b, CycleDraw(pictures(3, 2, 6, 6), pictures(3, 2, 6, 6), torch.rand(4, 3, 7))


@pytest.mark.parametrize("identity", [True, False])
@pytest.mark.parametrize("veil", [0.0, 0.3])
def test_the_way_there_and_back(cycle, identity, veil):
    (there, back), a, b, draw = cycle
    found = cross(CycleNetworks(there, back), a, b, veil, draw, identity)
    torch.testing.assert_close(found.fake_b, there(a))
    torch.testing.assert_close(found.fake_a, back(b))
    torch.testing.assert_close(found.back_a, back(there(a) + veil * draw.veil_b))
    torch.testing.assert_close(found.back_b, there(back(b) + veil * draw.veil_a))
    if identity:
        torch.testing.assert_close(found.same_b, there(b))
        torch.testing.assert_close(found.same_a, back(a))
    else:
        assert found.same_a is None and found.same_b is None


def test_not_coming_back_has_a_price(cycle):
    networks, a, b, draw = cycle
    crossing = cross(networks, a, b, 0.0, draw, True)
    loss = cycle_loss(a, b, crossing, 10.0, 0.6)
    come_back = (crossing.back_a - a).abs().mean() + (crossing.back_b - b).abs().mean()
    stay = (networks.there(b) - b).abs().mean() + (networks.back(a) - a).abs().mean()
    torch.testing.assert_close(loss.total, 10 * come_back + 0.6 * stay)
    torch.testing.assert_close(loss.parts["cycle"], come_back)
    torch.testing.assert_close(loss.parts["identity"], stay)
    torch.testing.assert_close(cycle_loss(a, b, crossing, 10.0, 0.0).total, 10 * come_back)


@pytest.mark.parametrize("change", [None, CHANGE])
def test_both_judges_speak_to_the_translators(cycle, change):
    networks, a, b, draw = cycle
    judges, crossing = (Judge(2), Judge(2)), cross(networks, a, b, 0.0, draw, False)
    loss = cycle_generators_loss(LeastSquares(), judges, change, a, b, crossing, draw)
    seen = [crossing.fake_a, crossing.fake_b]
    if change:
        seen = [change(seen[0], draw.change[1]), change(seen[1], draw.change[3])]
    expected = [(judge(picture) - 1).square().mean() / 2 for judge, picture in zip(judges, seen, strict=True)]
    torch.testing.assert_close(loss.total, sum(expected))
    torch.testing.assert_close(loss.parts["generator_a"], expected[0])
    torch.testing.assert_close(loss.parts["generator_b"], expected[1])


@pytest.mark.parametrize("change", [None, CHANGE])
def test_each_judge_minimises_its_own_error_and_slope(cycle, change):
    _, a, b, draw = cycle
    judges = Judge(2), Judge(2)
    fakes = [pictures(3, 2, 6, 6).requires_grad_() for _ in range(2)]
    loss = cycle_judges_loss(LeastSquares(), R1(gamma=0.5, every=2), judges, change, a, b, *fakes, draw)
    total, slopes = 0, 0
    for number, (judge, real, fake) in enumerate(zip(judges, (a, b), fakes, strict=True)):
        if change:
            real, fake = change(real, draw.change[2 * number]), change(fake, draw.change[2 * number + 1])
        error = (judge(real) - 1).square().mean() / 2 + judge(fake).square().mean() / 2
        torch.testing.assert_close(loss.parts["judge_" + "ab"[number]], error)
        slope = 36 * judge.picture.weight.square().sum()
        total, slopes = total + error + 2 * 0.25 * slope, slopes + slope
    torch.testing.assert_close(loss.total, total)
    torch.testing.assert_close(loss.parts["r1"], slopes)
    loss.total.backward()
    assert fakes[0].grad is None and fakes[1].grad is None
    plain = cycle_judges_loss(LeastSquares(), None, judges, change, a, b, *fakes, draw)
    assert "r1" not in plain.parts and plain.total < loss.total
