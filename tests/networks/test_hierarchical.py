"""The hierarchical VAE: against a second, plain writing of its formulas, and the order in which things depend."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import conv2d, group_norm, interpolate, layer_norm, linear, pixel_shuffle, pixel_unshuffle, silu

from gencore.errors import InputError
from gencore.networks.hierarchical import Hierarchical, HierarchicalVAE
from gencore.vae import ELBO, DiscretisedLogistic, Draw, Networks, kl_divergence

SIZES = Hierarchical(
    size=8, channels=1, out_channels=2, latent=2, width=8, multipliers=(1, 2), blocks=(1, 2), patch=2, top=(3,), top_width=16
)
FLAT = replace(SIZES, top=())


def make(config=SIZES, trained=True, seed=0):
    torch.manual_seed(seed)
    model = HierarchicalVAE(config)
    with torch.no_grad():
        for parameter in model.parameters() if trained else ():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def inputs(model, count=3, draws=1):
    torch.manual_seed(1)
    x = torch.rand(count, model.config.channels, model.config.size, model.config.size) * 2 - 1
    return x, tuple(torch.randn(count * draws, *shape) for shape in model.latent_shapes)


class Restated:
    """The network written out with the weights of another, for `SIZES`."""

    def __init__(self, model):
        self.w = dict(model.named_parameters())

    def conv(self, name, h, stride=1):
        weight = self.w[f"{name}.weight"]
        return conv2d(h, weight, self.w[f"{name}.bias"], stride, weight.shape[-1] // 2)

    def dense(self, name, h):
        return linear(h, self.w[f"{name}.weight"], self.w[f"{name}.bias"])

    def norm(self, name, h):
        return silu(group_norm(h, 8, self.w[f"{name}.weight"], self.w[f"{name}.bias"]))

    def residual(self, name, h):
        r = self.conv(f"{name}.conv2", self.norm(f"{name}.norm2", self.conv(f"{name}.conv1", self.norm(f"{name}.norm1", h))))
        return (self.conv(f"{name}.shortcut", h) if f"{name}.shortcut.weight" in self.w else h) + r

    def layer(self, name, h):
        h = layer_norm(h, h.shape[-1:], self.w[f"{name}.0.weight"], self.w[f"{name}.0.bias"])
        return self.dense(f"{name}.3", silu(self.dense(f"{name}.1", h)))

    def draw(self, a, p, eps, found):
        """(HI.3): shift in the prior's standard deviations, factor on its standard deviation."""
        (shift, stretch), (mean, log_std) = a.chunk(2, 1), p.chunk(2, 1)
        q_mean, q_log_std = mean + log_std.exp() * shift, log_std + stretch
        z = q_mean + q_log_std.exp() * eps
        found.append((z, q_mean, q_log_std, mean, log_std))
        return z

    def group(self, name, h, up, eps, found):
        p = self.conv(f"{name}.prior_head", self.norm(f"{name}.prior_norm", h))
        a = self.conv(f"{name}.posterior_head", self.residual(f"{name}.posterior_block", torch.cat([h, up], 1)))
        return self.residual(f"{name}.after", h + self.conv(f"{name}.enter", self.draw(a, p, eps, found)))

    def __call__(self, x, eps):
        found = []
        fine = self.residual("up.0.0", self.conv("stem", pixel_unshuffle(x, 2)))
        coarse = self.conv("shrink.0.1", self.conv("shrink.0.0.conv", fine, 2))
        coarse = self.residual("up.1.1", self.residual("up.1.0", coarse))
        vector = self.dense("to_vector", coarse.flatten(1))
        vector = vector + self.layer("rungs.0.up", vector)

        h = self.w["start"].repeat(len(x), 1)
        a = self.layer("rungs.0.posterior_head", torch.cat([h, vector], 1))
        h = h + self.dense("rungs.0.enter", self.draw(a, torch.zeros_like(a), eps[0], found))
        h = h + self.layer("rungs.0.after", h)
        h = self.dense("from_vector", h).view(len(x), 16, 2, 2)
        h = self.group("down.1.0", h, coarse, eps[1], found)
        h = self.group("down.1.1", h, coarse, eps[2], found)
        h = self.conv("grow.0.1.conv", interpolate(self.conv("grow.0.0", h), scale_factor=2))
        h = self.group("down.0.0", h, fine, eps[3], found)
        h = pixel_shuffle(self.conv("unfold", self.norm("norm", h)), 2)
        return self.conv("head", silu(h)), found


def test_network_written_out(double_precision):
    model = make()
    x, eps = inputs(model)
    params, levels = model(x, eps)
    expected, found = Restated(model)(x, eps)
    torch.testing.assert_close(params, expected, check_dtype=False, atol=1e-4, rtol=1e-4)
    for level, written in zip(levels, found, strict=True):
        for ours, theirs in zip(level, written, strict=True):
            torch.testing.assert_close(ours, theirs, check_dtype=False, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "config, shapes",
    [
        (SIZES, ((3,), (2, 2, 2), (2, 2, 2), (2, 4, 4))),
        (FLAT, ((2, 2, 2), (2, 2, 2), (2, 4, 4))),
        (replace(SIZES, top=(4, 3), patch=1, blocks=(2, 1)), ((4,), (3,), (2, 4, 4), (2, 8, 8), (2, 8, 8))),
        (replace(SIZES, multipliers=(1,), blocks=(1,), channels=3, out_channels=6), ((3,), (2, 4, 4))),
    ],
)
def test_shapes(config, shapes):
    model = make(config)
    x, eps = inputs(model, draws=2)
    params, levels = model(x, eps)
    assert model.latent_shapes == shapes
    assert params.shape == model.generate(eps).shape == (6, config.out_channels, 8, 8)
    assert tuple(tuple(level.z.shape[1:]) for level in levels) == shapes
    assert len(model.bottom_up(x)) == len(shapes)


def test_posterior_is_the_prior_at_first():
    model = make(trained=False)
    assert all((kl_divergence(level) == 0).all() for level in model(*inputs(model))[1])


@pytest.mark.parametrize("config", [SIZES, FLAT])
def test_top_down_with_the_encoders_choice_is_forward(config):
    model = make(config)
    x, eps = inputs(model)
    params, levels = model(x, eps)
    seen = model.bottom_up(x)

    def choose(number, h, mean, log_std):
        q_mean, q_log_std = model.posterior(number, h, seen[number], mean, log_std)
        assert torch.equal(levels[number].mean, q_mean) and torch.equal(levels[number].prior_mean, mean)
        return q_mean + q_log_std.exp() * eps[number]

    assert torch.equal(model.top_down(len(x), choose), params)
    given = model.top_down(len(x), lambda number, h, mean, log_std: levels[number].z)
    assert torch.equal(given, params)


def test_generate_draws_from_the_prior():
    model = make()
    x, eps = inputs(model)
    drawn = []

    def choose(number, h, mean, log_std):
        drawn.append(mean + log_std.exp() * eps[number])
        return drawn[-1]

    assert torch.equal(model.generate(eps), model.top_down(len(x), choose))
    assert torch.equal(model.generate(eps), model.top_down(len(x), lambda number, *_: drawn[number]))


@pytest.mark.parametrize("config", [SIZES, FLAT])
def test_a_group_depends_on_those_above_and_on_no_other(config):
    model = make(config)
    x, eps = inputs(model)
    before, pictures = model(x, eps)[1], model(x, eps)[0]
    for place in range(len(eps)):
        params, after = model(x, tuple(noise + (number == place) for number, noise in enumerate(eps)))
        assert not torch.equal(params, pictures)
        for number in range(len(eps)):
            assert torch.equal(before[number].prior_mean, after[number].prior_mean) == (number <= place)
            assert torch.equal(before[number].mean, after[number].mean) == (number <= place)


def test_the_prior_does_not_see_the_picture():
    model = make()
    x, eps = inputs(model)
    z = [level.z for level in model(x, eps)[1]]
    moments = []
    for _ in range(2):
        model.top_down(3, lambda number, h, mean, log_std: moments.append((mean, log_std)) or z[number])
    for level, (mean, log_std) in zip(model(x, eps)[1], moments, strict=False):
        assert torch.equal(level.prior_mean, mean) and torch.equal(level.prior_log_std, log_std)


def test_an_image_does_not_depend_on_its_batch():
    model = make()
    x, eps = inputs(model, draws=2)
    one = model(x[1:2], tuple(noise[2:4] for noise in eps))[0]
    torch.testing.assert_close(model(x, eps)[0][2:4], one, atol=1e-5, rtol=1e-5)


def test_every_parameter_learns():
    model = make()
    x, eps = inputs(model)
    ELBO(DiscretisedLogistic())(Networks(model), x, None, Draw(eps)).total.backward()
    assert not [name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()]


def test_every_option_changes_the_loss():
    variants = [SIZES] + [
        replace(SIZES, **change)
        for change in (
            {"latent": 3}, {"width": 16}, {"multipliers": (1, 1)}, {"blocks": (2, 2)}, {"patch": 1}, {"top": ()},
            {"top": (4,)}, {"top_width": 24},
        )
    ]  # fmt: skip
    losses = set()
    for config in variants:
        model = make(config)
        x, eps = inputs(model)
        losses.add(ELBO(DiscretisedLogistic())(Networks(model), x, None, Draw(eps)).total.item())
    assert len(losses) == len(variants)


@pytest.mark.parametrize(
    "change, word",
    [
        ({"width": 12}, "width"), ({"multipliers": ()}, "multipliers"), ({"blocks": (1,)}, "blocks"),
        ({"blocks": (1, 0)}, "blocks"), ({"latent": 0}, "latent"), ({"patch": 0}, "patch"), ({"size": 6}, "size"),
        ({"channels": 0}, "channels"), ({"top": (3, 0)}, "top"), ({"top_width": 0}, "top_width"),
    ],
)  # fmt: skip
def test_wrong_sizes_name_the_field(change, word):
    with pytest.raises(InputError, match=word):
        replace(SIZES, **change)


def test_classes_are_refused():
    model = make()
    x, eps = inputs(model)
    with pytest.raises(InputError, match="cond"):
        model(x, eps, torch.zeros(3, dtype=torch.long))
    with pytest.raises(InputError, match="cond"):
        model.generate(eps, torch.zeros(3, dtype=torch.long))
