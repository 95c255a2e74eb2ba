"""Penalties on critics and generators whose slopes are known."""

import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn
from torch.distributions import Categorical, Normal

from gencore.errors import InputError
from gencore.gan.objectives import Draw, Networks, NonSaturating
from gencore.gan.penalties import R1, R2, Codes, GradientPenalty, PathLength
from gencore.gan.turns import turns
from gencore.networks.dcgan import DCGAN
from gencore.networks.infogan import InfoGAN
from tests.book.equations import close

SLOPES = [GradientPenalty(weight=3.0, every=4), R1(gamma=0.7, every=4), R2(gamma=0.7, every=4)]
of_each_slope = pytest.mark.parametrize("penalty", SLOPES, ids=lambda each: type(each).__name__)


@pytest.fixture(autouse=True)
def exact(double_precision):
    """All of this file in float64."""


def pictures(count=5, channels=2, size=3):
    """Real and generated pictures, and what penalties draw."""
    x, fake, direction = torch.randn(3, count, channels, size, size)
    return x, fake, Draw(torch.randn(count, 8), torch.rand(count), direction)


def penalise(penalty, critic, x, fake, draw, cond=None):
    return penalty.loss(Networks(nn.Identity(), critic), x, cond, draw, fake)


class Linear(nn.Module):
    """D(x) = w x + b: the slope is w everywhere."""

    def __init__(self, w):
        super().__init__()
        self.w, self.b = nn.Parameter(w), nn.Parameter(torch.randn(()))

    def forward(self, x):
        return (self.w * x).flatten(1).sum(1) + self.b


def test_penalties_of_a_linear_critic():
    """(ST.8): weight (|w| - 1)^2; (ST.9): gamma / 2 |w|^2; each times `every`; and their slopes in w."""
    critic = Linear(torch.randn(2, 3, 3))
    w, length = critic.w.detach(), critic.w.detach().norm()
    for penalty, total, slope, part in [
        (SLOPES[0], 4 * 3 * (length - 1) ** 2, 4 * 3 * 2 * (length - 1) * w / length, {"slope": length}),
        (SLOPES[1], 4 * 0.35 * length**2, 4 * 0.35 * 2 * w, {"r1": length**2}),
        (SLOPES[2], 4 * 0.35 * length**2, 4 * 0.35 * 2 * w, {"r2": length**2}),
    ]:
        loss = penalise(penalty, critic, *pictures())
        close(loss.total, total)
        assert loss.parts.keys() == part.keys()
        close(*(next(iter(parts.values())) for parts in (loss.parts, part)))
        close(torch.autograd.grad(loss.total, critic.w)[0], slope)


def test_a_slope_of_one_costs_nothing():
    w = torch.randn(2, 3, 3)
    critic = Linear(w / w.norm())
    loss = penalise(GradientPenalty(), critic, *pictures())
    close(loss.total, 0.0)
    close(torch.autograd.grad(loss.total, critic.w)[0], torch.zeros(2, 3, 3), atol=1e-6)


def bowl(x):
    """D(x) = |x|^2 / 2: the slope at x is x."""
    return x.square().flatten(1).sum(1) / 2


def test_where_each_penalty_looks():
    x, fake, draw = pictures()
    lengths = {
        "r1": x.flatten(1).norm(dim=1),
        "r2": fake.flatten(1).norm(dim=1),
        "slope": torch.stack([(a + u * (b - a)).norm() for a, b, u in zip(x, fake, draw.between, strict=True)]),
    }
    for penalty in (R1(gamma=1.0, every=1), R2(gamma=1.0, every=1), GradientPenalty(weight=1.0)):
        loss = penalise(penalty, bowl, x, fake, draw)
        ((name, part),) = loss.parts.items()
        gradient_penalty = name == "slope"
        close(part, lengths[name].mean() if gradient_penalty else lengths[name].square().mean())
        close(loss.total, (lengths[name] - 1).square().mean() if gradient_penalty else lengths[name].square().mean() / 2)


@pytest.mark.parametrize("u, place", [(0.0, "real"), (1.0, "generated")])
def test_between_goes_from_real_to_generated(u, place):
    x, fake, draw = pictures()
    loss = penalise(GradientPenalty(), bowl, x, fake, draw._replace(between=torch.full((5,), u)))
    close(loss.parts["slope"], {"real": x, "generated": fake}[place].flatten(1).norm(dim=1).mean())


def bent():
    """A small critic whose slope differs from place to place."""
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1), nn.Flatten(0))


def numeric(loss, weight, step=1e-5):
    """Return the gradient of a loss by central differences."""
    found = torch.zeros_like(weight)
    for place in range(weight.numel()):
        ends = []
        for sign in (1, -1):
            weight.data.view(-1)[place] += sign * step
            ends.append(loss().total.item())
            weight.data.view(-1)[place] -= sign * step
        found.view(-1)[place] = (ends[0] - ends[1]) / (2 * step)
    return found


@of_each_slope
def test_slopes_are_differentiated_once_more(penalty):
    critic, given = bent(), pictures(channels=1, size=2)
    loss = penalise(penalty, critic, *given)
    assert all(value.isfinite() for value in loss.parts.values())
    loss.total.backward()
    for name, weight in critic.named_parameters():
        if name == "3.bias":  # what is added to every verdict has no share in slopes
            assert weight.grad is None or not weight.grad.any()
            continue
        assert weight.grad.abs().max() > 1e-3, name
        close(weight.grad, numeric(lambda: penalise(penalty, critic, *given), weight), atol=1e-7)


@of_each_slope
def test_penalties_of_the_critic_ask_nothing_of_the_pictures(penalty):
    x, fake, draw = pictures(channels=1, size=2)
    generated = fake.requires_grad_()
    penalise(penalty, bent(), x, 2 * generated, draw).total.backward()
    assert generated.grad is None and not x.requires_grad


class Told(nn.Module):
    """D(x) = cond w x: the slope is as steep as is told."""

    def forward(self, x, cond):
        return cond[:, 0] * x.flatten(1).sum(1)


@of_each_slope
def test_the_critic_is_told_while_its_slope_is_measured(penalty):
    cond = torch.tensor([[2], [-3], [0], [1], [5]])
    lengths = cond[:, 0].abs() * math.sqrt(18)
    expected = lengths.mean() if isinstance(penalty, GradientPenalty) else lengths.square().mean()
    close(*penalise(penalty, Told(), *pictures(), cond=cond).parts.values(), expected)


@dataclass(frozen=True)
class Game:
    penalties: tuple
    objective: NonSaturating = NonSaturating()
    generator_every: int = 1


class Painter(nn.Module):
    """A generator that is linear in its styles, of which there are several: layer l adds A_l w_l to the picture."""

    def __init__(self, layers=3, style=4, channels=2, size=3):
        super().__init__()
        self.A = nn.Parameter(torch.randn(layers, channels, size, size, style))
        self.layers, self.style, self.asked = layers, style, []
        self.register_buffer("mean_path", torch.tensor(0.7, dtype=torch.float32))

    def styles(self, z, cond=None):
        self.asked.append((z, cond))
        return z[:, None, : self.style].expand(-1, self.layers, -1).clone().requires_grad_()

    def paint(self, w, z):
        return torch.einsum("lchws,bls->bchw", self.A, w)

    def lengths(self, direction):
        """|J'y|: squares added up over a style, averaged over layers; y is noise over sqrt(H W)."""
        pulls = torch.einsum("lchws,bchw->bls", self.A, direction) / math.sqrt(direction[0, 0].numel())
        return pulls.square().sum(2).mean(1).sqrt()


def walk(penalty, painter, draw, cond=None):
    return penalty.loss(Networks(painter, nn.Identity()), None, cond, draw, None)


PATH = PathLength(weight=1.5, every=3, decay=0.1, share=2)


def test_paths_of_a_linear_generator():
    """(SB.8), on the first three of five pictures."""
    painter, (_, _, draw), cond = Painter(), pictures(), torch.arange(5)[:, None]
    lengths = painter.lengths(draw.direction[:3]).detach()
    usual = 0.9 * 0.7 + 0.1 * lengths.mean()
    loss = walk(PATH, painter, draw, cond)
    close(loss.total.double(), 3 * 1.5 * (lengths - usual).square().mean(), atol=1e-4)
    close(loss.parts["path"].double(), lengths.mean(), atol=1e-5)
    close(loss.moves["mean_path"].double(), usual, atol=1e-5)
    assert painter.mean_path == 0.7  # the loop moves it
    ((z, told),) = painter.asked
    assert torch.equal(z, draw.z[:3]) and torch.equal(told, cond[:3])


def test_whose_gradient_the_path_length_is():
    """Of a generator s times as bright, lengths are s times as long; the usual length is taken as it is."""
    painter, (_, _, draw) = Painter(), pictures()
    lengths = painter.lengths(draw.direction[:3]).detach()
    usual = 0.9 * 0.7 + 0.1 * lengths.mean()
    (slope,) = torch.autograd.grad(walk(PATH, painter, draw).total, painter.A)
    along = (slope * painter.A).sum()  # d / ds at s = 1
    close(along, 3 * 1.5 * 2 * ((lengths - usual) * lengths).mean(), atol=1e-3)


def test_equal_paths_of_the_usual_length_cost_nothing():
    painter, (_, _, draw) = Painter(), pictures()
    draw = draw._replace(direction=draw.direction[:1].expand(5, -1, -1, -1))
    usual = painter.lengths(draw.direction)[0].detach()
    painter.mean_path.copy_(usual)
    loss = walk(PATH, painter, draw)
    close(loss.total.item(), 0.0, atol=1e-9)
    close(loss.moves["mean_path"].double(), usual, atol=1e-5)
    painter.mean_path.copy_(usual + 1)
    close(walk(PATH, painter, draw).total.item(), 3 * 1.5 * 0.9**2, atol=1e-4)


def test_path_length_on_average_does_not_depend_on_the_size_of_the_picture():
    """E |J'y|^2 = |J|^2 / (H W), the mean over layers: of a picture enlarged by repeating pixels, the same."""
    small = Painter(layers=2, size=2)
    large = Painter(layers=2, size=4)
    large.A.data = small.A.data.repeat_interleave(2, 2).repeat_interleave(2, 3)
    for painter, size in ((small, 2), (large, 4)):
        direction = torch.randn(40_000, 2, size, size)
        draw = Draw(torch.randn(40_000, 8), None, direction)
        squares = painter.A.detach().square().sum((1, 2, 3, 4)).mean() / size**2
        painter.mean_path.zero_()
        still = replace(PATH, weight=1.0, every=1, decay=1e-9, share=1)  # the usual length stays 0
        assert walk(still, painter, draw).total.item() == pytest.approx(squares.item(), rel=0.03)
    close(large.A.square().sum() / 16, small.A.square().sum() / 4)


@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("kind", [GradientPenalty, R1, R2, PathLength, Codes])
def test_what_is_due_seldom_weighs_as_much_on_average(kind, every):
    networks, draw = info_networks()
    given = {PathLength: (Networks(Painter(), nn.Identity()), None, None, pictures()[2], None)}
    if kind in (GradientPenalty, R1, R2):
        given[kind] = (Networks(nn.Identity(), bent()), *arranged(pictures(channels=1, size=2)))
    arguments = given.get(kind) or (networks, None, None, draw, networks.generator(draw.z))
    penalty, player = kind(every=every), kind.players[-1]
    dues = [getattr(turns(Game((penalty,)), step), player)[1:] for step in range(8)]
    totals = [each(*arguments).total for due in dues for each in due]
    assert len(totals) == 8 // every
    close(sum(totals) / 8, kind(every=1).loss(*arguments).total, rtol=1e-6)


def arranged(given):
    """Pictures and draw in the order that losses take them."""
    x, fake, draw = given
    return x, None, draw, fake


def info_networks(classes=3, continuous=2):
    network = InfoGAN(dcgan=DCGAN(size=8, latent=8, width=4, norm="group", discriminator_norm="group"),
                      classes=classes, continuous=continuous)
    networks = Networks(*network.build())
    for weight in networks.discriminator.reader.parameters():
        weight.data = 0.2 * torch.randn_like(weight)  # a reading that says something
    return networks, Draw(torch.randn(6, 8))


@pytest.mark.parametrize("classes, continuous", [(3, 2), (4, 0), (0, 3)])
def test_codes_cost_what_a_distribution_says(classes, continuous):
    """(CO.5), and torch.distributions."""
    networks, draw = info_networks(classes, continuous)
    fake = networks.generator(draw.z)
    loss = Codes(weight=0.5, number_weight=0.2, every=3).loss(networks, None, None, draw, fake)
    chosen, numbers = networks.generator.codes(draw.z)
    logits, mean, log_std = networks.discriminator.read(fake)
    class_nats = -Categorical(logits=logits.double()).log_prob(chosen.argmax(1)).mean() if classes else torch.zeros(())
    number_nats = -Normal(mean.double(), log_std.double().exp()).log_prob(numbers).sum(1).mean()
    close(loss.parts["class_nats"].double(), class_nats, atol=1e-5)
    close(loss.parts["number_nats"].double(), number_nats, atol=1e-5)
    close(loss.total.double(), 1.5 * class_nats + 0.6 * number_nats, atol=1e-5)


def test_codes_are_learned_by_who_writes_and_by_who_reads():
    networks, draw = info_networks()
    Codes().loss(networks, None, None, draw, networks.generator(draw.z)).total.backward()
    verdict = networks.discriminator.discriminator.layers[-1]
    for network in networks:
        for name, weight in network.named_parameters():
            if any(weight is each for each in verdict.parameters()):
                assert weight.grad is None, "the verdict has no part in the reading"
            else:
                assert weight.grad.abs().max() > 0, name
    assert Codes.players == ("discriminator", "generator")


@pytest.mark.parametrize("kind", [GradientPenalty, R1, R2, PathLength, Codes])
def test_weights_and_times_must_make_sense(kind):
    name = "gamma" if kind in (R1, R2) else "weight"
    kind(**{name: 0.0})
    with pytest.raises(InputError, match="weight is -0.5"):
        kind(**{name: -0.5})
    with pytest.raises(InputError, match="every is 0"):
        kind(every=0)


@pytest.mark.parametrize("wrong", [dict(decay=0.0), dict(decay=1.5), dict(share=0)])
def test_paths_need_a_decay_and_a_share(wrong):
    with pytest.raises(InputError, match="decay is above 0, up to 1; share is 1 or more"):
        PathLength(**wrong)
