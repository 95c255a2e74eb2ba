"""Weights in eight bits: what comes back differs by half a step at most, and a file says all that is needed."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from gencore.errors import InputError
from gencore.training import checkpoint, eight_bits


@pytest.fixture
def weights():
    torch.manual_seed(0)
    filters = torch.randn(6, 3, 3, 3) * torch.logspace(-6, 3, 6)[:, None, None, None]  # rows of very different size
    filters[2] = 0
    return {"net.filters": filters, "net.bias": torch.randn(6), "net.seen": torch.tensor(7), "net.table": torch.eye(4)}


def test_what_comes_back_is_half_a_step_away_at_most(weights):
    back = eight_bits.grow(eight_bits.shrink(weights))
    assert set(back) == set(weights)
    for key in ("net.filters", "net.table"):
        step = weights[key].flatten(1).abs().amax(1) / 127
        error = (back[key] - weights[key]).flatten(1).abs().amax(1)
        assert (error <= 0.501 * step).all() and back[key].shape == weights[key].shape
    assert (back["net.filters"] - weights["net.filters"]).abs().max() > 0  # it is rounded
    assert torch.equal(back["net.filters"][2], torch.zeros(3, 3, 3))
    assert torch.equal(back["net.table"], weights["net.table"])  # 0 and the largest are hit
    assert torch.equal(back["net.bias"], weights["net.bias"].half())
    assert back["net.seen"] == 7 and back["net.seen"].dtype == torch.int64


def test_what_half_precision_cannot_hold_is_named(weights):
    largest = torch.full((3,), 65504.0)
    assert torch.equal(eight_bits.shrink(weights | {"net.variance": largest})["net.variance"].float(), largest)
    with pytest.raises(InputError, match="'net.variance': half precision holds"):
        eight_bits.shrink(weights | {"net.variance": torch.tensor([1.0, -70_000.0])})


def test_a_second_rounding_changes_nothing(weights):
    once = eight_bits.grow(eight_bits.shrink(weights))
    twice = eight_bits.grow(eight_bits.shrink(once))
    for key in once:
        torch.testing.assert_close(twice[key].float(), once[key].float(), rtol=1e-6, atol=0)


def test_files_are_read_whatever_they_hold(weights, tmp_path):
    save_file(eight_bits.shrink(weights), tmp_path / "small.safetensors")
    save_file(weights, tmp_path / "large.safetensors")
    assert load_file(tmp_path / "small.safetensors")["net.filters.8bit"].dtype == torch.int8
    small, large = (checkpoint.read_tensors(tmp_path / f"{name}.safetensors") for name in ("small", "large"))
    assert set(small) == set(large) == set(weights)
    for key, value in weights.items():
        assert torch.equal(large[key], value)
        torch.testing.assert_close(small[key].float(), value.float(), rtol=1e-2, atol=value.float().abs().max().item() / 200)


def test_a_name_that_only_looks_like_a_part_is_left_alone():
    weights = {"net.step": torch.ones(2), "other.8bit": torch.ones(2, dtype=torch.int8)}
    assert set(eight_bits.grow(weights)) == set(weights)
