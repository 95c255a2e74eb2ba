"""Codes of several scales: both algorithms of the paper, what learns, and how an autoencoder trains on them."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gencore import vae
from gencore.data import Emoji
from gencore.errors import InputError
from gencore.networks.autoencoder import Autoencoder
from gencore.networks.multiscale import MultiScale
from gencore.networks.quantiser import Codebook
from gencore.networks.vqvae import VQ, VQVAE
from gencore.training import recipe_io
from gencore.vae import Draw, Networks, VAERecipe, VectorQuantised

SCALES = (1, 2, 3, 5)
LENGTHS = [1, 4, 9, 25]
SIZES = Autoencoder(size=16, channels=3, latent=3, flat=False, width=8, multipliers=(1, 2))
RECIPE = VAERecipe(
    data=Emoji(styles=("noto",), size=16),
    network=VQ(SIZES, MultiScale(Codebook(16), (1, 2, 4, 8))),
    objective=VectorQuantised(),
    images=64,
    batch_size=8,
)


def quantiser(size=7, dimension=3, scales=SCALES, blends=3, **settings):
    """One whose convolutions are no longer the identity, each different."""
    torch.manual_seed(0)
    made = MultiScale(Codebook(size, **settings), scales, blends).build(dimension)
    for blend in made.blends:
        nn.init.normal_(blend.weight, 0, 0.3)
        nn.init.normal_(blend.bias, 0, 0.3)
    return made


def grid(seed=1, batch=2):
    return torch.randn(batch, 3, 5, 5, generator=torch.Generator().manual_seed(seed))


def plain_part(ms, codes, number):
    """One scale's part of the sum: look up, enlarge, blend."""
    scale = SCALES[number]
    words = torch.stack([ms.words.codebook[code] for code in codes.flatten()]).view(len(codes), scale, scale, 3)
    words = words.permute(0, 3, 1, 2)
    if scale != 5:
        words = F.interpolate(words, size=(5, 5), mode="bicubic")
    conv = ms.blends[[0, 0, 1, 2][number]]  # four scales, three convolutions
    return words / 2 + F.conv2d(words, conv.weight, conv.bias, padding=1) / 2


def plain_quantise(ms, f):
    """Algorithm 1: queue of codes, the sum, and the vectors that were compared with codewords."""
    queue, vectors, total = [], [[] for _ in f], torch.zeros_like(f)
    for number, scale in enumerate(SCALES):
        rest = f - total
        codes = torch.zeros(len(f), scale, scale, dtype=torch.int64)
        for b in range(len(f)):
            for i in range(scale):
                for j in range(scale):
                    rows = slice(i * 5 // scale, -(-(i + 1) * 5 // scale))
                    columns = slice(j * 5 // scale, -(-(j + 1) * 5 // scale))
                    mean = rest[b, :, rows, columns].mean((1, 2))
                    vectors[b].append(mean)
                    codes[b, i, j] = min(range(7), key=lambda k: (mean - ms.words.codebook[k]).square().sum())
        queue.append(codes.flatten(1))
        total = total + plain_part(ms, codes, number)
    return torch.cat(queue, 1), total, torch.stack(sum(vectors, []))


def test_algorithms_1_and_2_written_plainly():
    ms, f = quantiser(), grid()
    found = ms(f)
    codes, total, vectors = plain_quantise(ms, f)
    assert codes.shape == (2, 39) and found.codes.dtype == torch.int64
    assert torch.equal(found.codes, codes)
    torch.testing.assert_close(found.z, total)
    torch.testing.assert_close(found.vectors, vectors)
    reconstructed, first = torch.zeros(2, 3, 5, 5), 0
    for number, length in enumerate(LENGTHS):
        reconstructed = reconstructed + plain_part(ms, codes[:, first : first + length], number)
        first += length
    torch.testing.assert_close(ms.decode(codes), reconstructed)


def test_reading_gives_what_writing_gave():
    ms, f = quantiser(), grid()
    found = ms(f)
    torch.testing.assert_close(ms.decode(found.codes), found.z)
    torch.testing.assert_close(ms.partial(found.codes, 4), found.z)
    assert not ms.partial(found.codes, 0).any()


def test_at_first_each_scale_comes_nearer():
    """The convolutions are the identity, and the codewords what was asked for: the last scale leaves nothing."""
    torch.manual_seed(0)
    ms, f = MultiScale(Codebook(200, decay=0.0), SCALES).build(3), 0.5 * grid()
    for _ in range(20):
        found = ms(f)
        ms.move(found.counts, found.sums, found.vectors[torch.randint(len(found.vectors), (200,))])
    found = ms(f)
    errors = [(f - ms.partial(found.codes, count)).square().mean().item() for count in range(5)]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.01 * errors[0]
    part = torch.zeros(2, 1, dtype=torch.int64)
    torch.testing.assert_close(ms.rise(part, 0), ms.words.codebook[0].view(1, 3, 1, 1).expand(2, -1, 5, 5))


def test_neighbours_share_convolutions_as_the_authors_do():
    """Ten scales, four convolutions."""
    scales = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
    ms, used = MultiScale(Codebook(2), scales).build(1), []
    for blend in ms.blends:
        blend.register_forward_hook(lambda module, *_: used.append(list(ms.blends).index(module)))
    ms.decode(torch.zeros(1, sum(scale**2 for scale in scales), dtype=torch.int64))
    assert used == [0, 0, 0, 1, 1, 2, 2, 2, 3, 3]


def test_counts_and_sums_are_those_of_all_scales():
    ms = quantiser(decay=0.9, restart_below=0.0)
    counts, sums = torch.zeros(7), torch.zeros(7, 3)
    for seed in (1, 2, 3):
        found, (codes, _, vectors) = ms(grid(seed)), plain_quantise(ms, grid(seed))
        chosen = F.one_hot(codes.flatten(), 7).float()
        torch.testing.assert_close(found.counts, chosen.sum(0))
        torch.testing.assert_close(found.sums, chosen.T @ vectors)
        ms.move(found.counts, found.sums, torch.full((7, 3), 100.0))
        counts, sums = 0.9 * counts + 0.1 * chosen.sum(0), 0.9 * sums + 0.1 * chosen.T @ vectors
    used = counts > 0
    assert used.sum() > 3
    torch.testing.assert_close(ms.words.codebook[used], (sums / counts[:, None])[used])


def test_commitment_moves_the_encoder_only():
    ms, f = quantiser(), grid().requires_grad_()
    found = ms(f)
    found.distance.backward()
    partial = [ms.partial(found.codes, count) for count in (1, 2, 3, 4)]
    expected = sum((f - part).square().mean() for part in partial) / 4
    torch.testing.assert_close(found.distance, expected)
    torch.testing.assert_close(f.grad, sum(2 * (f - part) for part in partial).detach() / 4 / f.numel())
    assert all(p.grad is None for p in ms.parameters())


def test_fit_moves_the_convolutions_only():
    ms, f = quantiser(), grid().requires_grad_()
    found = ms(f)
    expected = sum((f.detach() - ms.partial(found.codes, count)).square().mean() for count in (1, 2, 3, 4)) / 4
    torch.testing.assert_close(found.fit, expected)
    parameters = list(ms.parameters())
    plain = torch.autograd.grad(expected, parameters)
    for ours, theirs in zip(torch.autograd.grad(found.fit, parameters, retain_graph=True), plain, strict=True):
        torch.testing.assert_close(ours, theirs)
        assert ours.any()
    (at_encoder,) = torch.autograd.grad(found.fit, f, allow_unused=True)
    assert at_encoder is None


def test_what_the_decoder_says_goes_straight_to_the_encoder():
    ms, f = quantiser(), grid().requires_grad_()
    found, weights = ms(f), grid(9)
    (weights * found.z).sum().backward()
    torch.testing.assert_close(f.grad, weights)
    assert all(p.grad is None for p in ms.parameters())


def test_inputs_are_what_was_known_before():
    ms = quantiser()
    codes = ms(grid()).codes
    inputs, first = ms.inputs(codes), 0
    assert inputs.shape == (2, 38, 3)
    for number in (1, 2, 3):
        known = ms.partial(codes, number)
        if SCALES[number] < 5:
            known = F.interpolate(known, (SCALES[number],) * 2, mode="area")
        for place in range(LENGTHS[number]):
            row, column = divmod(place, SCALES[number])
            torch.testing.assert_close(inputs[:, first + place], known[:, :, row, column])
        first += LENGTHS[number]


def test_inputs_hang_on_earlier_scales_only():
    ms = quantiser()
    codes = ms(grid()).codes
    before, spans = ms.inputs(codes).split(LENGTHS[1:], 1), codes.split(LENGTHS, 1)
    for changed in range(4):
        other = [(part + 1) % 7 if number == changed else part for number, part in enumerate(spans)]
        after = ms.inputs(torch.cat(other, 1)).split(LENGTHS[1:], 1)
        for number, (a, b) in enumerate(zip(before, after, strict=True), start=1):
            assert torch.equal(a, b) == (number <= changed)


def test_mixed_precision_changes_no_code_and_no_sum():
    ms, f = quantiser(), grid()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = ms(f)
        read = ms.decode(mixed.codes)
    whole = ms(f)
    assert torch.equal(mixed.codes, whole.codes)
    assert torch.equal(mixed.z, whole.z) and torch.equal(read, ms.decode(whole.codes))


# In an autoencoder


def test_images_to_codes_to_images():
    torch.manual_seed(0)
    network, x = VQVAE(RECIPE.network), torch.randn(2, 3, 16, 16)
    decoded, z, quantised = network(x)
    codes = network.encode(x)
    assert codes.shape == (2, 85) and torch.equal(codes, quantised.codes)
    torch.testing.assert_close(network.decode(codes), decoded, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(decoded, network.decoder(network.quantiser(z).z))


def test_the_loss_lets_encoder_decoder_and_convolutions_learn():
    torch.manual_seed(0)
    network, x = VQVAE(RECIPE.network), torch.rand(4, 3, 16, 16) * 2 - 1
    decoded, _, quantised = network(x)
    loss = VectorQuantised(0.25)(Networks(network), x, None, Draw(()))
    torch.testing.assert_close(loss.total, F.mse_loss(decoded, x) + 0.25 * quantised.distance + quantised.fit)
    assert torch.equal(loss.moves["vectors"], quantised.vectors) and not loss.moves["vectors"].requires_grad
    loss.total.backward()
    for part in (network.encoder.head, network.decoder.head, *network.quantiser.blends):
        assert part.weight.grad.any()


def run(recipe):
    for state in vae.train(recipe, None, "cpu"):
        pass
    return state


def test_it_trains_as_other_codes_do(tmp_path):
    assert recipe_io.from_dict(VAERecipe, recipe_io.to_dict(RECIPE)) == RECIPE
    for state in vae.train(RECIPE, tmp_path, "cpu"):
        pass
    before = vae.sampling.build(RECIPE).model.state_dict()
    after = state.networks.model.state_dict()
    assert [name for name in before if torch.equal(before[name], after[name])] == []
    model, recipe = vae.load(tmp_path)
    assert recipe == RECIPE
    found = {each["name"]: each["value"] for each in vae.measure((model, recipe))}
    assert found["bits of an image's codes by their number"] == 85 * 4
    assert 0 < found["bits of an image's codes by their frequencies"] < 85 * 4


def test_micro_batches_move_the_codebook_alike():
    whole, pieces = (run(replace(RECIPE, images=8, micro_batches=each)).networks.model for each in (1, 2))
    torch.testing.assert_close(pieces.quantiser.words.codebook, whole.quantiser.words.codebook, rtol=1e-4, atol=1e-5)


def test_every_option_changes_the_loss():
    multi = RECIPE.network.quantiser
    changes = [
        dict(codebook=Codebook(8)),
        dict(codebook=Codebook(16, decay=0.5)),
        dict(codebook=Codebook(16, restart_below=0.0)),
        dict(scales=(1, 3, 4, 8)),
        dict(blends=1),
    ]
    longer = replace(RECIPE, images=32)
    first = run(longer).losses
    for change in changes:
        network = VQ(SIZES, replace(multi, **change))
        assert run(replace(longer, network=network)).losses != first, change


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: MultiScale(scales=()), "scales"),
        (lambda: MultiScale(scales=(0, 2)), "scales"),
        (lambda: MultiScale(scales=(1, 3, 3)), "scales"),
        (lambda: MultiScale(blends=0), "blends"),
        (lambda: MultiScale(blends=7), "blends"),
        (lambda: VQ(SIZES, MultiScale(scales=(1, 2, 4), blends=1)), "quantiser.scales"),
    ],
)
def test_bad_settings_are_named(make, word):
    with pytest.raises(InputError, match=word):
        make()
