"""Mutual information gap: a plain restatement, and codes whose score is known."""

import math
from collections import Counter

import pytest
import torch

from gencore.errors import InputError
from gencore.metrics import mutual_information, mutual_information_gap


def plain_information(code, factor, bins):
    """The sum of p log(p / (p q)) over a dictionary of counts, for one coordinate and one factor."""
    order = sorted(range(len(code)), key=code.__getitem__)
    place = {index: rank * bins // len(code) for rank, index in enumerate(order)}
    pairs = Counter((place[i], factor[i]) for i in range(len(code)))
    rows, columns = Counter(place.values()), Counter(factor)
    n = len(code)
    return sum(c / n * math.log(c * n / (rows[a] * columns[b])) for (a, b), c in pairs.items())


def noise(count, width, seed=0):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def some():
    factors = torch.randint(4, (300, 2), generator=torch.Generator().manual_seed(1))
    codes = noise(300, 3)
    codes[:, 1] += factors[:, 0]
    codes[:, 2] -= 2 * factors[:, 1]
    return codes, factors


def test_equals_a_plain_restatement():
    codes, factors = some()
    found = mutual_information(codes, factors, bins=7)
    for j in range(3):
        for k in range(2):
            plain = plain_information(codes[:, j].tolist(), factors[:, k].tolist(), 7)
            assert found[j, k].item() == pytest.approx(plain, abs=1e-12)
    gaps = mutual_information_gap(codes, factors, bins=7)
    for k in range(2):
        first, second, _ = sorted(found[:, k].tolist(), reverse=True)
        shares = [count / 300 for count in Counter(factors[:, k].tolist()).values()]
        entropy = -sum(share * math.log(share) for share in shares)
        assert gaps[k].item() == pytest.approx((first - second) / entropy, abs=1e-12)


def test_known_cases():
    """A factor that is a coordinate scores 1; one that is written twice, 0; one nowhere, about 0."""
    factors = torch.stack([torch.arange(4000) % 5, torch.arange(4000) % 4, torch.arange(4000) // 1000 % 2], 1)
    alone, twice = factors[:, 0] + 0.01 * noise(4000, 1)[:, 0], factors[:, 1] + 0.01 * noise(4000, 1, 1)[:, 0]
    codes = torch.stack([alone, twice, -3 * twice, noise(4000, 1, 2)[:, 0]], 1)
    gaps = mutual_information_gap(codes, factors, bins=20)
    assert gaps[0].item() == pytest.approx(1, abs=0.01) and gaps[1].item() == pytest.approx(0, abs=1e-9)
    assert gaps[2] < 0.02
    information = mutual_information(codes, factors, bins=20)
    assert information[0, 0].item() == pytest.approx(math.log(5), abs=0.01)


def test_unit_and_order_do_not_matter_but_rotation_does():
    codes, factors = some()
    gaps = mutual_information_gap(codes, factors)
    assert torch.allclose(mutual_information_gap(codes[:, [2, 0, 1]].exp(), factors), gaps)
    turned = codes @ torch.linalg.qr(noise(3, 3, 5)).Q
    assert (mutual_information_gap(turned, factors) < gaps).all()


def test_noise_tells_as_much_as_counting_errors():
    factors = torch.randint(10, (2000, 1), generator=torch.Generator().manual_seed(3))
    bias = 19 * 9 / (2 * 2000)
    assert mutual_information(noise(2000, 20), factors).mean().item() == pytest.approx(bias, rel=0.15)


def test_bad_input_is_named():
    codes, factors = some()
    with pytest.raises(InputError, match="bins is 1"):
        mutual_information(codes, factors, bins=1)
    with pytest.raises(InputError, match="codes: 10 rows, but at least 20"):
        mutual_information(codes[:10], factors[:10])
    with pytest.raises(InputError, match=r"factors: expected int64 \(300, K\)"):
        mutual_information(codes, factors.float())
    with pytest.raises(InputError, match="one is negative"):
        mutual_information(codes, factors - 1)
    with pytest.raises(InputError, match="factors: number 1 has one value only"):
        mutual_information_gap(codes, factors * torch.tensor([1, 0]))
    with pytest.raises(InputError, match="at least two coordinates"):
        mutual_information_gap(codes[:, :1], factors)
