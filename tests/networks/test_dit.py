"""The diffusion transformer: the paper's block, and what it is before it has learned anything."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from gencore import diffusion
from gencore.data import Digits
from gencore.diffusion import DiffusionRecipe
from gencore.errors import InputError
from gencore.networks.dit import DiT, DiTBlock, DiTNetwork
from gencore.networks.embeddings import patchify, sinusoidal_grid, unpatchify
from gencore.training import recipe_io
from gencore.training.optimiser import AdamW

TINY = DiT(size=8, channels=2, patch=2, width=8, depth=2, heads=2, mlp_ratio=3, conditions=(5, 3))


def awake(module):
    """The module with random weights everywhere, gates and last layer included."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return module


def noised(config, batch=3):
    torch.manual_seed(1)
    columns = [torch.randint(count + 1, (batch,)) for count in config.conditions]
    cond = torch.stack(columns, 1) if columns else torch.empty(batch, 0, dtype=torch.int64)
    return torch.randn(batch, config.channels, config.size, config.size), torch.rand(batch), cond


@pytest.mark.parametrize(
    "config",
    [TINY, DiT(), DiT(size=14, patch=7, heads=1, depth=1), DiT(size=6, channels=4, patch=1, width=12, heads=3)],
)
def test_shapes(config):
    network, (x_t, t, cond) = awake(DiTNetwork(config)), noised(config)
    assert network(x_t, t, cond).shape == x_t.shape
    assert network.places.shape == ((config.size // config.patch) ** 2, config.width)


@pytest.mark.usefixtures("double_precision")
def test_a_network_written_plainly():
    """Section 3.2 and figure 3 of the paper, on the same weights."""
    network, (x_t, t, cond) = awake(DiTNetwork(TINY)), noised(TINY)
    w = dict(network.named_parameters())

    def norm(h):
        return (h - h.mean(2, keepdim=True)) / (h.var(2, correction=0, keepdim=True) + 1e-6).sqrt()

    def attend(h, name):
        key, value = w[f"{name}.key_value.weight"].split(8)
        heads = []
        for part in (slice(0, 4), slice(4, 8)):
            q, k, v = h @ w[f"{name}.query.weight"][part].T, h @ key[part].T, h @ value[part].T
            heads.append((q @ k.transpose(1, 2) / 4**0.5).softmax(2) @ v)
        return F.linear(torch.cat(heads, 2), w[f"{name}.out.weight"], w[f"{name}.out.bias"])

    def mlp(h, name):
        h = F.gelu(F.linear(h, w[f"{name}.0.weight"], w[f"{name}.0.bias"]))
        return F.linear(h, w[f"{name}.2.weight"], w[f"{name}.2.bias"])

    c = network.teller.time(t)
    c = F.silu(c + w["teller.tables.0.weight"][cond[:, 0]] + w["teller.tables.1.weight"][cond[:, 1]])
    h = F.conv2d(x_t, w["stem.weight"].view(8, 2, 2, 2), w["stem.bias"], stride=2).flatten(2).transpose(1, 2)
    h = h + sinusoidal_grid(4, 4, 8)
    for number in range(2):
        block = f"blocks.{number}"
        six = F.linear(c, w[f"{block}.steer.weight"], w[f"{block}.steer.bias"])[:, None].split(8, 2)
        beta1, gamma1, alpha1, beta2, gamma2, alpha2 = six  # the letters of figure 3: shift, scale, gate
        h = h + alpha1 * attend(norm(h) * (1 + gamma1) + beta1, f"{block}.attention")
        h = h + alpha2 * mlp(norm(h) * (1 + gamma2) + beta2, f"{block}.mlp")
    beta, gamma = F.linear(c, w["steer.weight"], w["steer.bias"])[:, None].split(8, 2)
    h = F.linear(norm(h) * (1 + gamma) + beta, w["head.weight"], w["head.bias"])  # (B, 16, C * patch^2)
    expected = F.fold(h.transpose(1, 2), (8, 8), 2, stride=2)
    torch.testing.assert_close(network(x_t, t, cond), expected)


def test_a_new_block_is_the_identity_and_a_new_network_says_zero():
    h, told = torch.randn(3, 16, 8), torch.randn(3, 8)
    assert torch.equal(DiTBlock(TINY)(h, told), h)
    assert not torch.equal(awake(DiTBlock(TINY))(h, told), h)
    assert not DiTNetwork(TINY)(*noised(TINY)).any()
    assert awake(DiTNetwork(TINY))(*noised(TINY)).any()


def test_each_gate_holds_back_its_own_part():
    """With the first gate shut a token hears nothing of others; with the second, only attention speaks."""
    block, h, told = awake(DiTBlock(TINY)), torch.randn(1, 16, 8), torch.randn(1, 8)

    def shut(part):
        block = awake(DiTBlock(TINY))
        with torch.no_grad():
            block.steer.weight[8 * part : 8 * part + 8] = block.steer.bias[8 * part : 8 * part + 8] = 0
        return block

    alone = shut(2)
    other = h.clone()
    other[:, 5:] += 1
    assert torch.equal(alone(other, told)[:, :5], alone(h, told)[:, :5])
    assert not torch.equal(block(other, told)[:, :5], block(h, told)[:, :5])
    gathered = shut(5)
    gathered.mlp[2].bias.data += 1
    assert torch.equal(gathered(h, told), shut(5)(h, told))


def test_patches_change_places_with_their_positions_only():
    """A stack of blocks knows tokens by what they hold: without positions, shuffled patches give shuffled patches."""
    network, (x_t, t, cond), order = awake(DiTNetwork(TINY)).double(), noised(TINY), torch.randperm(16)
    x_t, t = x_t.double(), t.double()
    shuffled = unpatchify(patchify(x_t, 2)[:, order], 2, 4, 4)

    def difference():
        return (patchify(network(shuffled, t, cond), 2) - patchify(network(x_t, t, cond), 2)[:, order]).abs().max()

    assert difference() > 1e-3
    network.places.zero_()
    assert difference() < 1e-12


def test_a_picture_depends_on_its_own_time_and_conditions_only():
    network, (x_t, t, cond) = awake(DiTNetwork(TINY)).double(), noised(TINY)
    x_t, t = x_t.double(), t.double()
    torch.testing.assert_close(network(x_t, t, cond)[1:], network(x_t[1:], t[1:], cond[1:]))
    for other in ((x_t, t.roll(1), cond), (x_t, t, (cond + 1) % torch.tensor([6, 4]))):
        assert (network(*other) - network(x_t, t, cond)).flatten(1).abs().amax(1).gt(1e-4).all()
    untold = torch.tensor([[5, 3]] * 3)
    assert torch.equal(network(x_t, t), network(x_t, t, untold))


def test_every_parameter_learns():
    """Gates and last layer start at zero: what lies behind them moves only once they are open."""
    torch.manual_seed(0)
    network = DiTNetwork(TINY)
    before = {name: value.clone() for name, value in network.named_parameters()}
    adam = torch.optim.Adam(network.parameters(), 1e-2)
    for step in range(5):
        x_t, t, cond = noised(TINY, 16)
        (network(x_t, t, cond) - x_t * t[:, None, None, None] - cond[:, :1, None, None]).square().mean().backward()
        if step == 0:
            learns = {name for name, p in network.named_parameters() if p.grad.any()}
            assert learns == {"head.weight", "head.bias"}
        adam.step()
        adam.zero_grad()
    assert [name for name, value in network.named_parameters() if torch.equal(value, before[name])] == []


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (dict(size=9), "size 9: must be a multiple of the patches' side, 2"),
        (dict(size=0), "size 0"),
        (dict(channels=0), "channels 0"),
        (dict(patch=0), "patch 0"),
        (dict(width=10), "width 10"),
        (dict(width=6), "width 6"),
        (dict(depth=0), "depth 0"),
        (dict(heads=3), "the 3 heads"),
        (dict(mlp_ratio=0), "mlp_ratio 0"),
        (dict(conditions=(5, 0)), "conditions"),
    ],
)
def test_sizes_that_make_no_network_are_refused(wrong, sentence):
    with pytest.raises(InputError, match=sentence):
        replace(TINY, **wrong)


def test_pictures_and_conditions_that_do_not_fit_are_refused():
    network, (x_t, t, cond) = DiTNetwork(TINY), noised(TINY)
    with pytest.raises(InputError, match=r"images of shape \(2, 6, 8\): this transformer takes \(2, 8, 8\)"):
        network(x_t[:, :, :6], t, cond)
    with pytest.raises(InputError, match="conditions"):
        network(x_t, t, cond[:, :1])


def test_it_stands_where_a_denoising_unet_stands(tmp_path):
    """Trained, saved, loaded and sampled by the family's loop."""
    network = DiT(size=14, patch=7, width=8, depth=1, heads=2, conditions=(10,))
    recipe = DiffusionRecipe(
        Digits(14), network, told=("class",), images=64, batch_size=16, optimiser=AdamW(warm_up=0, weight_decay=0.0)
    )
    assert recipe_io.from_dict(DiffusionRecipe, recipe_io.to_dict(recipe)) == recipe
    before = diffusion.sampling.build(recipe).model.state_dict()
    for state in diffusion.train(recipe, tmp_path, device="cpu"):
        pass
    after = state.networks.model.state_dict()
    assert before.keys() == after.keys() and "places" not in after
    assert [name for name in before if torch.equal(before[name], after[name])] == []
    images = diffusion.sample(diffusion.load(tmp_path), 3, seed=0)
    assert images.shape == (3, 1, 14, 14) and images.isfinite().all()
    assert torch.equal(images, diffusion.sample((state.averaged, recipe), 3, seed=0))
    with pytest.raises(InputError, match="network.size is 28"):
        replace(recipe, network=replace(network, size=28))


def test_half_precision_gives_nearly_the_same():
    network, (x_t, t, cond) = awake(DiTNetwork(TINY)), noised(TINY)
    with torch.autocast("cpu", torch.bfloat16):
        half = network(x_t, t, cond)
    full = network(x_t, t, cond)
    assert (half.float() - full).norm() < 0.05 * full.norm()
