import math

import pytest
import torch
from torch.nn import functional as F

from gencore.errors import InputError
from gencore.networks.quantiser import FSQ, Codebook, perplexity


def quantiser(size=5, dimension=3, **settings):
    torch.manual_seed(0)
    return Codebook(size, **settings).build(dimension)


def grid(dimension=3, spread=1.0, seed=1):
    return spread * torch.randn(2, dimension, 4, 4, generator=torch.Generator().manual_seed(seed))


def one_hot(codes, size):
    return F.one_hot(codes.flatten(), size).float()  # (n, K)


def flat(z):
    return z.movedim(1, -1).flatten(0, 2)  # (n, D)


def test_each_vector_becomes_its_nearest_codeword():
    vq, z = quantiser(), grid()
    found = vq(z)
    for b in range(2):
        for i in range(4):
            for j in range(4):
                distances = [sum((a - e) ** 2 for a, e in zip(z[b, :, i, j], codeword)) for codeword in vq.codebook]
                nearest = min(range(5), key=lambda k: distances[k])
                assert found.codes[b, i, j] == nearest
                torch.testing.assert_close(found.z[b, :, i, j], vq.codebook[nearest])
    nearest = F.embedding(found.codes, vq.codebook).movedim(-1, 1)
    torch.testing.assert_close(found.distance, F.mse_loss(z, nearest))


@pytest.mark.parametrize("spec", [Codebook(5), FSQ((3, 4, 5))])
def test_the_gradient_goes_straight_through(spec):
    z = grid().requires_grad_()
    found = spec.build(3)(z)
    weights = torch.randn(found.z.shape, generator=torch.Generator().manual_seed(2))
    (gradient,) = torch.autograd.grad((weights * found.z).sum(), z)
    expected = weights
    if isinstance(spec, FSQ):  # rounding is passed over, the squashing is not
        plain = torch.stack([squashed(z[:, i], levels) / (levels // 2) for i, levels in enumerate(spec.levels)], 1)
        (expected,) = torch.autograd.grad((weights * plain).sum(), z)
    torch.testing.assert_close(gradient, expected)
    assert not found.codes.requires_grad and not found.counts.requires_grad


def squashed(z, levels):
    """The paper's bound, one coordinate at a time."""
    half = (levels - 1) * (1 - 1e-3) / 2
    offset = 0.0 if levels % 2 else 0.5
    return torch.tanh(z + math.atanh(offset / half)) * half - offset


def test_the_commitment_moves_the_encoder_only():
    vq, z = quantiser(), grid().requires_grad_()
    found = vq(z)
    found.distance.backward()
    nearest = vq.codebook[found.codes].movedim(-1, 1)
    torch.testing.assert_close(z.grad, 2 * (z.detach() - nearest) / z.numel())
    assert not list(vq.parameters()) and vq.codebook.grad is None


@pytest.mark.parametrize("spec", [Codebook(60), FSQ((3, 4, 5))])
def test_counts_and_codes_tell_the_same(spec):
    found = spec.build(3)(grid(spread=2))
    assert found.counts.shape == (60,) and found.counts.dtype == torch.float32
    assert torch.equal(found.counts, one_hot(found.codes, 60).sum(0))
    assert spec.size == 60


def test_a_codeword_is_the_decay_weighted_mean_of_what_chose_it():
    vq = quantiser(4, 2, decay=0.9, restart_below=0.0)
    first, seen = vq.codebook.clone(), []
    for step in range(7):
        z = grid(2, seed=step)
        found = vq(z)
        seen.append((one_hot(found.codes, 4), flat(z)))
        vq.move(found.counts, found.sums, torch.full((4, 2), 100.0))
    weights = [0.1 * 0.9 ** (6 - step) for step in range(7)]
    counts = sum(w * chosen.sum(0) for w, (chosen, _) in zip(weights, seen))
    sums = sum(w * chosen.T @ vectors for w, (chosen, vectors) in zip(weights, seen))
    torch.testing.assert_close(vq.counts, counts)
    torch.testing.assert_close(vq.sums, sums)
    torch.testing.assert_close(vq.codebook, sums / counts[:, None])
    assert not torch.equal(first, vq.codebook)


def test_without_decay_a_move_is_a_step_of_k_means():
    vq = quantiser(4, 2, decay=0.0, restart_below=0.0)
    z = grid(2)
    found = vq(z)
    vq.move(found.counts, found.sums, torch.zeros(4, 2))
    for k in range(4):
        torch.testing.assert_close(vq.codebook[k], flat(z)[found.codes.flatten() == k].mean(0))


def test_what_nothing_chooses_stays_or_restarts():
    far = torch.tensor([[50.0, 50.0]])
    for restart_below, stays in ((0.0, True), (0.01, False)):
        vq = quantiser(4, 2, decay=0.5, restart_below=restart_below)
        vq.codebook[3] = far
        spare = torch.arange(8.0).view(4, 2)
        found = vq(grid(2))
        assert found.counts[3] == 0
        vq.move(found.counts, found.sums, spare)
        assert torch.equal(vq.codebook[3], far[0] if stays else spare[3])
        assert stays or vq.counts[3] == pytest.approx(16 / 4)  # as if chosen as often as the others on average


def test_a_codeword_falls_behind_before_it_restarts():
    vq = quantiser(2, 1, decay=0.5, restart_below=0.1)
    both, one = torch.tensor([8.0, 8.0]), torch.tensor([16.0, 0.0])
    vq.move(both, both[:, None] * torch.tensor([[1.0], [2.0]]), torch.zeros(2, 1))
    steps = 0
    while vq.codebook[1] == 2:
        vq.move(one, one[:, None], torch.full((2, 1), 7.0))
        steps += 1
    # its count goes 4, 2, 1, 0.5, the mean 4, 6, 7, 7.5: the third step takes it below a tenth of that
    assert vq.codebook[1] == 7 and steps == 3


def test_codes_and_codewords_round_trip():
    vq = quantiser(6, 3)
    codes = torch.arange(6).view(1, 2, 3)
    assert torch.equal(vq(vq.decode(codes)).codes, codes)
    fsq = FSQ((3, 4, 5)).build(3)
    codes = torch.arange(60).view(1, 6, 10)
    words = fsq.decode(codes)  # (1, 3, 6, 10)
    assert len(flat(words).unique(dim=0)) == 60
    z = torch.stack([invert(words[:, i], levels) for i, levels in enumerate((3, 4, 5))], 1)
    assert torch.equal(fsq(z).codes, codes)
    torch.testing.assert_close(fsq(z).z, words)


def invert(words, levels):
    half, offset = (levels - 1) * (1 - 1e-3) / 2, 0.0 if levels % 2 else 0.5
    at = ((words * (levels // 2) + offset) / half).clamp(-0.999, 0.999)
    return torch.atanh(at) - math.atanh(offset / half)


@pytest.mark.parametrize("levels", [3, 4, 5, 7, 8])
def test_fsq_takes_exactly_its_levels(levels):
    fsq = FSQ((levels,)).build(1)
    found = fsq(torch.linspace(-9, 9, 4_001).view(1, 1, 1, -1))
    values = found.z.unique()
    expected = (torch.arange(levels) - levels // 2) / (levels // 2)  # -1 ... 1, without the highest if even
    torch.testing.assert_close(values, expected)
    assert torch.equal(found.codes.unique(), torch.arange(levels))
    assert fsq(torch.zeros(1, 1, 1, 1)).z == 0 and found.distance == 0 and found.sums is None


def test_fsq_numbers_its_codewords_from_the_first_coordinate():
    fsq = FSQ((3, 5)).build(2)
    words = torch.tensor([[-1.0, -1.0], [0.0, -1.0], [1.0, -1.0], [-1.0, -0.5], [1.0, 1.0]])
    assert fsq.decode(torch.tensor([[[0, 1, 2, 3, 14]]])).movedim(1, -1)[0, 0].tolist() == words.tolist()


def test_perplexity_counts_what_is_in_use():
    assert perplexity(torch.tensor([7.0, 7.0, 0.0, 7.0])) == pytest.approx(3)
    p = torch.tensor([0.5, 0.3, 0.2])
    assert perplexity(40 * p) == pytest.approx(math.exp(-sum(q * math.log(q) for q in p.tolist())))


def test_mixed_precision_does_not_change_the_choice():
    vq, z = quantiser(200, 16), grid(16)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = vq(z)
    assert torch.equal(mixed.codes, vq(z).codes) and mixed.z.dtype == torch.float32
    assert torch.equal(mixed.sums, vq(z).sums)


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: Codebook(size=1), "size"),
        (lambda: Codebook(decay=1.0), "decay"),
        (lambda: Codebook(restart_below=1.0), "restart_below"),
        (lambda: FSQ(()), "levels"),
        (lambda: FSQ((8, 2)), "levels"),
        (lambda: FSQ((8, 8)).build(3), "levels"),
    ],
)
def test_bad_settings_are_named(make, word):
    with pytest.raises(InputError, match=word):
        make()
