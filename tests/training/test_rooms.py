"""Recipes to JSON and back, checkpoints, curves, averages, randomness."""

import json
import os
import pickle
import sys
from dataclasses import dataclass
from typing import Literal

import pytest
import torch
from torch import nn

from gencore.errors import InputError
from gencore.gan.recipes import GANRecipe, dcgan_digits, dcgan_emoji
from gencore.training import checkpoint, device, distributed, recipe_io, rng
from gencore.training.ema import EMA
from gencore.training.log import Curve, read_curve
from gencore.training.loss import Loss, LossWindow, NonFiniteLoss, add_losses


@dataclass(frozen=True)
class Left:
    size: int = 1
    rate: float = 0.5


@dataclass(frozen=True)
class Right:
    names: tuple[Literal["a", "b"], ...] = ("a",)
    limit: int | None = None


@dataclass(frozen=True)
class Tree:
    branch: Left | Right
    flag: bool = False


@pytest.mark.parametrize("recipe", [dcgan_digits(), dcgan_emoji()])
def test_recipes_survive_json(recipe):
    text = json.dumps(recipe_io.to_dict(recipe))
    assert recipe_io.from_dict(GANRecipe, json.loads(text)) == recipe


@pytest.mark.parametrize("tree", [Tree(Left(3, 1.0)), Tree(Right(("a", "b"), 4), True), Tree(Right())])
def test_unions_are_resolved_by_type(tree):
    assert recipe_io.from_dict(Tree, json.loads(json.dumps(recipe_io.to_dict(tree)))) == tree


@pytest.mark.parametrize(
    "branch, message",
    [
        ({"type": "Left", "sise": 3}, r"field 'branch.sise': unknown in Left; did you mean 'size'\?"),
        ({"type": "Left", "size": "3"}, "field 'branch.size': '3' is not of type int"),
        ({"type": "Left", "size": True}, "field 'branch.size': True is not of type int"),
        ({"type": "Left", "rate": None}, "field 'branch.rate': None is not of type float"),
        ({"type": "Right", "names": ["c"]}, "field 'branch.names': 'c' is not one of 'a', 'b'"),
        ({"type": "os.system"}, "field 'branch': type 'os.system' is not one of Left, Right"),
        ("Left", "field 'branch': type 'Left' is not one of"),
    ],
)
def test_a_wrong_field_is_named(branch, message):
    with pytest.raises(InputError, match=message):
        recipe_io.from_dict(Tree, {"type": "Tree", "branch": branch}, "recipe.json")


def test_a_missing_field_is_named():
    with pytest.raises(InputError, match="Tree lacks the field 'branch'"):
        recipe_io.from_dict(Tree, {"type": "Tree"})


def test_a_value_the_dataclass_refuses_is_named():
    data = recipe_io.to_dict(dcgan_digits())
    data["network"]["size"] = 30
    with pytest.raises(InputError, match="field 'network': size 30"):
        recipe_io.from_dict(GANRecipe, data)


def test_a_broken_recipe_file_is_named(tmp_path):
    (tmp_path / "recipe.json").write_text('{"type": ')
    with pytest.raises(InputError, match="recipe.json: not readable as JSON"):
        recipe_io.read(Tree, tmp_path / "recipe.json")


def saved(tmp_path, images_seen=7):
    tmp_path.mkdir(exist_ok=True)
    network = {"net": nn.Linear(2, 3)}
    return network, checkpoint.save(tmp_path, images_seen, network, network, {"seconds": 1.0})


def test_a_checkpoint_comes_back(tmp_path):
    network, folder = saved(tmp_path)
    other = {"net": nn.Linear(2, 3)}
    checkpoint.fill(other, checkpoint.read_tensors(folder / "weights.safetensors"), folder)
    assert torch.equal(other["net"].weight, network["net"].weight)
    assert checkpoint.read_state(folder / "train_state.pt") == {"seconds": 1.0}


def test_half_written_checkpoints_do_not_count_and_old_ones_go(tmp_path):
    for images_seen in (1, 2, 3):
        saved(tmp_path, images_seen)
    (tmp_path / "checkpoints" / "000000000009.part").mkdir()
    assert [path.name for path in checkpoint.list_checkpoints(tmp_path)] == ["000000000002", "000000000003"]


class Killed(BaseException):
    """Stands for a process that ends here and now."""


class Assassin:
    """Kills at the n-th touch of a file below a folder; Python tells of each touch by an audit event."""

    hook = None

    def __init__(self, folder, touch):
        self.folder, self.left = str(folder), touch
        if Assassin.hook is None:  # audit hooks stay for ever, so there is one
            sys.addaudithook(lambda event, arguments: Assassin.hook and Assassin.hook.on(arguments))

    def on(self, arguments):
        if any(isinstance(each, (str, os.PathLike)) and str(each).startswith(self.folder) for each in arguments):
            self.left -= 1
            if self.left == 0:
                raise Killed

    def __enter__(self):
        Assassin.hook = self

    def __exit__(self, *_):
        Assassin.hook = False


def test_a_kill_at_any_moment_leaves_a_loadable_checkpoint(tmp_path):
    network = {"net": nn.Linear(2, 3)}
    for touch in range(1, 200):
        folder = tmp_path / str(touch)
        for images_seen in (1, 2):
            saved(folder, images_seen)
        try:
            with Assassin(folder, touch):
                checkpoint.save(folder, 3, network, network, {"seconds": 1.0})
        except Killed:
            newest = checkpoint.list_checkpoints(folder)[-checkpoint.KEEP :]
            assert len(newest) == checkpoint.KEEP
            for path in newest:
                checkpoint.fill(network, checkpoint.read_tensors(path / "weights.safetensors"), path)
                checkpoint.fill(network, checkpoint.read_tensors(path / "ema.safetensors"), path)
                assert checkpoint.read_state(path / "train_state.pt") == {"seconds": 1.0}
        else:
            break
    assert 10 < touch < 199, "the kills did not reach every moment of a save"


@pytest.mark.parametrize("keep", [0, 5, 60])
def test_truncated_weights_give_one_error(tmp_path, keep):
    _, folder = saved(tmp_path)
    path = folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match="weights.safetensors: not a whole safetensors file"):
        checkpoint.read_tensors(path)


def test_weights_of_another_network_are_refused(tmp_path):
    _, folder = saved(tmp_path)
    tensors = checkpoint.read_tensors(folder / "weights.safetensors")
    with pytest.raises(InputError, match=r"'net.weight' has shape \(3, 2\), the recipe's network needs \(4, 2\)"):
        checkpoint.fill({"net": nn.Linear(2, 4)}, tensors, "file")
    with pytest.raises(InputError, match="file: lacks 'net.0.weight'"):
        checkpoint.fill({"net": nn.Sequential(nn.Linear(2, 3))}, tensors, "file")
    with pytest.raises(InputError, match="file: holds 'net.bias'"):
        checkpoint.fill({"net": nn.Linear(2, 3, bias=False)}, tensors, "file")


class Bomb:
    def __reduce__(self):
        return (open, ("exploded", "w"))


@pytest.mark.parametrize("how", ["pickle", "archive"])
def test_loading_never_runs_code(tmp_path, monkeypatch, how):
    """Not even where the environment asks PyTorch to trust files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    if how == "pickle":
        (tmp_path / "train_state.pt").write_bytes(pickle.dumps(Bomb(), protocol=2))
    else:
        torch.save({"seconds": Bomb()}, tmp_path / "train_state.pt")
    with pytest.raises(InputError, match="train_state.pt: damaged"):
        checkpoint.read_state(tmp_path / "train_state.pt")
    assert not (tmp_path / "exploded").exists()


def test_a_curve_drops_rows_later_than_the_checkpoint(tmp_path):
    curve = Curve(tmp_path)
    for images_seen in (1_000_000, 2_000_000, 3_000_000):
        curve.append({"images_seen": images_seen, "loss": images_seen / 7})
    Curve(tmp_path, 2_000_000)
    assert [row["images_seen"] for row in read_curve(tmp_path / "curve.csv")] == [1_000_000, 2_000_000]


def test_tensorboard_gets_the_rows(tmp_path):
    pytest.importorskip("tensorboard")
    Curve(tmp_path, extra="tensorboard").append({"images_seen": 1, "loss": 0.5})
    assert list(tmp_path.glob("events.out.tfevents*"))


def test_average_halves_in_a_half_life():
    """(DC.3): after a half-life of images, half of the old weight is left."""
    network = nn.Linear(1, 1, bias=False)
    nn.init.ones_(network.weight)
    ema = EMA(network, half_life=100)
    nn.init.zeros_(network.weight)
    for step in range(10):
        ema.update(network, images_seen=10**6, batch_size=10)
    assert ema.network.weight.item() == pytest.approx(0.5)
    assert EMA(network, 10**9).decay(images_seen=1000, batch_size=100) == pytest.approx(0.5)  # ramps up


def test_average_copies_buffers():
    network = nn.BatchNorm1d(2)
    ema = EMA(network, 100)
    network(torch.randn(8, 2) + 5)
    ema.update(network, 8, 8)
    assert torch.equal(ema.network.running_mean, network.running_mean)


def test_random_numbers_are_sliced_by_rank_and_differ_by_purpose():
    whole = rng.normal((8, 3), 0, 64, "latent")
    halves = [rng.normal((8, 3), 0, 64, "latent", rank, 2) for rank in (0, 1)]
    assert torch.equal(torch.cat(halves), whole)
    for other in (rng.normal((8, 3), 0, 64, "dropout"), rng.normal((8, 3), 0, 72, "latent"), rng.normal((8, 3), 1, 64, "latent")):
        assert not torch.equal(other, whole)
    assert torch.equal(rng.normal_per_image(4, (3,), 5, first=2)[1:], rng.normal_per_image(3, (3,), 5, first=3))


def test_loss_window_means_and_names_the_first_bad_step():
    window = LossWindow()
    for step, value in enumerate([1.0, 3.0], start=1):
        window.add(step, {"loss": torch.tensor(value)})
    assert window.report() == {"loss": 2.0}
    for step, value in enumerate([1.0, float("inf"), float("nan")], start=3):
        window.add(step, {"loss": torch.tensor(value)})
    with pytest.raises(NonFiniteLoss, match="'loss' became inf at step 4"):
        window.report()


def test_a_part_that_comes_in_some_steps_is_averaged_over_those():
    window, rows = LossWindow(), []
    for step in range(1, 9):
        every_third = {"penalty": torch.tensor(float(step))} if step % 3 == 1 else {}
        window.add(step, {"loss": torch.tensor(2.0 * step)} | every_third)
        if step in (2, 4, 6, 8):
            rows.append(window.report())
    assert rows == [
        {"loss": 3.0, "penalty": 1.0}, {"loss": 7.0, "penalty": 4.0}, {"loss": 11.0}, {"loss": 15.0, "penalty": 7.0}
    ]
    for step, value in enumerate([1.0, 2.0, 9.0], start=9):
        window.add(step, {"penalty": torch.tensor(value)} if step != 10 else {"loss": torch.tensor(value)})
    assert window.report() == {"penalty": 5.0, "loss": 2.0}
    assert window.report() == {}


def test_loss_window_names_the_step_of_a_part_that_comes_in_some():
    window = LossWindow()
    for step in range(1, 10):
        value = float("nan") if step == 7 else 1.0
        window.add(step, {"loss": torch.tensor(1.0)} | ({"penalty": torch.tensor(value)} if step % 3 == 1 else {}))
    with pytest.raises(NonFiniteLoss, match="'penalty' became nan at step 7"):
        window.report()


def test_loss_window_names_what_went_wrong_first():
    """A penalty that explodes takes the loss along, a step later."""
    window = LossWindow()
    for step in range(1, 5):
        loss, penalty = (float("inf") if step > first else 1.0 for first in (3, 2))
        window.add(step, {"loss": torch.tensor(loss), "penalty": torch.tensor(penalty)})
    with pytest.raises(NonFiniteLoss, match="'penalty' became inf at step 3"):
        window.report()


def test_a_curve_has_room_for_parts_that_come_in_some_rows(tmp_path):
    curve, rows = Curve(tmp_path), [{"images_seen": 1, "loss": 0.5}, {"images_seen": 2, "loss": 0.25, "penalty": 3.0}]
    rows += [{"images_seen": 3, "loss": 0.0}]
    for row in rows:
        curve.append(row)
    assert read_curve(tmp_path / "curve.csv") == rows
    again = Curve(tmp_path, 2)
    again.append(rows[2])
    assert read_curve(tmp_path / "curve.csv") == again.rows == rows


def test_losses_add_up():
    a, b = (torch.tensor(value, requires_grad=True) for value in (2.0, 5.0))
    picture, state = torch.zeros(1), torch.tensor(7.0)
    first = Loss(3 * a, {"a": a.detach()}, {"codebook": state}, picture)
    second, third = Loss(a * b, {"b": b.detach()}, {"mean_path": state}, torch.ones(1)), Loss(b, {})
    both = add_losses(iter([first, second, third]))
    assert both.total.item() == 6 + 10 + 5
    assert [slope.item() for slope in torch.autograd.grad(both.total, (a, b))] == [3 + 5, 2 + 1]
    assert both.parts == {"a": 2.0, "b": 5.0} and both.moves == {"codebook": 7.0, "mean_path": 7.0}
    assert both.picture is picture
    assert first.parts.keys() == {"a"} and first.moves.keys() == {"codebook"}, "what was added up stays as it was"
    assert add_losses([first]) == first


def test_gradients_are_averaged_in_one_message(monkeypatch):
    """Those of weights that had no part stay None; memory may lie in either order."""
    def weights(factor):
        network = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Linear(3, 2)).to(memory_format=torch.channels_last)
        for number, weight in enumerate(network.parameters()):
            weight.grad = None if number == 2 else factor * torch.arange(weight.numel()).view(weight.shape).to(weight)
        network[0].weight.grad = network[0].weight.grad.to(memory_format=torch.channels_last)
        return list(network.parameters())

    alone = weights(1.0)
    distributed.average_gradients(alone)
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(alone, weights(1.0), strict=True) if a.grad is not None)

    sent = []
    others = torch.cat([3 * weight.grad.flatten() for weight in alone if weight.grad is not None])
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed, "sum_over_processes", lambda mine: sent.append(len(mine)) or mine + others)
    together = weights(1.0)
    distributed.average_gradients(together)
    assert sent == [2 * 3 * 4 + 3 + 2]
    for ours, expected in zip(together, weights(2.0), strict=True):  # the mean of 1 and 3
        assert ours.grad is expected.grad is None or torch.equal(ours.grad, expected.grad)


def test_an_unknown_device_is_refused():
    with pytest.raises(InputError, match="device 'gpu7': not available"):
        device.pick_device("gpu7")


def test_bf16_is_used_only_where_asked_for():
    layer, x = nn.Linear(2, 2), torch.randn(1, 2)
    with device.autocast(torch.device("cpu"), "bf16"):
        assert layer(x).dtype == torch.bfloat16
    with device.autocast(torch.device("cpu"), "fp32"):
        assert layer(x).dtype == torch.float32
