import pytest
import torch

from gencore.networks.minibatch_std import minibatch_std


def test_a_known_batch():
    """Two channels of one place: pictures 0 and 2 have 1 and 5 in the first, and 2 in the second; 1 and 3 are alike."""
    h = torch.tensor([[1.0, 2], [7, 7], [5, 2], [7, 7]])[:, :, None, None]
    out = minibatch_std(h, group=2)
    assert torch.equal(out[:, :2], h)
    torch.testing.assert_close(out[:, 2, 0, 0], torch.tensor([1.0, 0, 1, 0]), atol=1e-3, rtol=0)  # (2 + 0) / 2, and 0


def test_one_map_is_appended_and_the_same_everywhere():
    out = minibatch_std(torch.randn(8, 3, 4, 5))
    assert out.shape == (8, 4, 4, 5)
    torch.testing.assert_close(out[:, 3], out[:, 3, :1, :1].expand(-1, 4, 5))


@pytest.mark.parametrize("batch, groups", [(8, 2), (12, 3), (4, 1), (6, 1), (7, 1), (3, 1), (2, 1)])
def test_a_batch_that_groups_do_not_fill_is_one_group(batch, groups):
    h = torch.randn(batch, 3, 2, 2)
    out = minibatch_std(h)[:, 3, 0, 0]
    assert len(out.unique()) == groups
    for first in range(groups):
        std = h[first::groups].std(0, unbiased=False).mean()
        torch.testing.assert_close(out[first::groups], std.expand(batch // groups))


def test_the_gradient_is_finite_where_all_pictures_are_alike():
    h = torch.ones(4, 3, 2, 2, requires_grad=True)
    out = minibatch_std(h)
    out.sum().backward()
    assert h.grad.isfinite().all() and out[:, 3].max() < 1e-3


def test_it_is_computed_in_single_precision_at_least():
    """bf16 has 3 digits: of pictures that differ by a hundredth of their size, it would not see how much they do."""
    h = (100 + torch.randn(64, 8, 4, 4)).bfloat16()
    out = minibatch_std(h, group=64)
    assert out.dtype == torch.bfloat16
    expected = h.float().std(0, unbiased=False).mean()
    torch.testing.assert_close(out[:, 8].float(), expected.expand(64, 4, 4), rtol=1e-2, atol=0)
