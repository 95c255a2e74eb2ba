"""A history takes what is made, gives back what was made, and loses nothing."""

import pytest
import torch

from gencore.applications.translation.history import History
from gencore.errors import InputError


def batch(number, count=4):
    """Pictures that say when they were made."""
    return (10.0 * number + torch.arange(count))[:, None, None, None].expand(-1, 1, 2, 2).clone()


def test_until_it_is_full_it_only_takes():
    history = History(8, (1, 2, 2))
    for number in range(2):
        assert torch.equal(history.exchange(batch(number), 0, 4 * number, "a"), batch(number))
    assert history.pictures[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 10, 11, 12, 13]


def test_then_it_exchanges_half_and_every_picture_is_somewhere():
    history, shown, made, fresh = History(8, (1, 2, 2)), [], [], []
    for number in range(60):
        made += batch(number)[:, 0, 0, 0].tolist()
        out = history.exchange(batch(number), 0, 4 * number, "a")
        if number >= 2:
            old = [value for value in out[:, 0, 0, 0].tolist() if value < 10 * number]
            shown += old
            fresh += [value for value in out[:, 0, 0, 0].tolist() if value >= 10 * number]
    share = len(shown) / (58 * 4)
    assert 0.4 < share < 0.6
    assert len(set(shown)) == len(shown), "a picture that was shown is gone from the history"
    kept = history.pictures[:, 0, 0, 0].tolist()
    assert set(kept) <= set(made) and not set(fresh) & {*shown, *kept}, "what was shown at once is not kept"
    assert (history.pictures == history.pictures[:, :1, :1, :1]).all(), "pictures stay whole"
    assert len(set(kept)) == 8


def test_what_it_does_follows_from_seed_moment_and_name():
    def after(seed, seen, name):
        history = History(8, (1, 2, 2))
        history.pictures.copy_(torch.cat([batch(0), batch(1)]))
        return history.exchange(batch(9), seed, seen, name), history.pictures.clone()

    plain = after(0, 40, "a")
    assert all(map(torch.equal, plain, after(0, 40, "a")))
    for other in (after(1, 40, "a"), after(0, 44, "a"), after(0, 40, "b")):
        assert not (torch.equal(plain[0], other[0]) and torch.equal(plain[1], other[1]))


def test_none_at_all_returns_what_it_is_given_and_too_small_is_refused():
    fake = batch(0)
    assert History(0, (1, 2, 2)).exchange(fake, 0, 0, "a") is fake
    with pytest.raises(InputError, match="history of 3 pictures: must be 0 .none. or at least the batch of 4"):
        History(3, (1, 2, 2)).exchange(fake, 0, 0, "a")


def test_a_checkpoint_holds_it():
    assert list(History(8, (1, 2, 2)).state_dict()) == ["pictures"]
