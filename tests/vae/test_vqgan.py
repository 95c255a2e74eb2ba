"""Vector-quantised autoencoders and their adversary: objectives, and the training with both."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gencore import vae
from gencore.data import Emoji, to_float
from gencore.errors import InputError
from gencore.networks.autoencoder import Autoencoder
from gencore.networks.patchgan import PatchGAN
from gencore.networks.quantiser import FSQ, Codebook
from gencore.networks.vqvae import VQ, VQVAE
from gencore.training import checkpoint
from gencore.training.loss import Loss
from gencore.vae import ELBO, Draw, Gaussian, Networks, VAERecipe, VectorQuantised
from gencore.vae.adversary import Adversary, adaptive_weight, discriminator_loss, with_adversary, with_perceptual

SIZES = Autoencoder(size=16, channels=3, latent=3, flat=False, width=8, multipliers=(1, 2))
TINY = VAERecipe(
    data=Emoji(styles=("noto",), size=16),
    network=VQ(SIZES, Codebook(16)),
    objective=VectorQuantised(),
    perceptual=0.1,
    adversary=Adversary(PatchGAN(width=8, strided=1)),
    images=48,
    batch_size=8,
    log_every=8,
    checkpoint_every=24,
)
KL = replace(TINY, network=SIZES, objective=ELBO(Gaussian(0.1)))


def run_to_the_end(recipe, folder=None):
    for run in vae.train(recipe, folder, "cpu"):
        pass
    return run


def model_and_images():
    torch.manual_seed(0)
    model = VQVAE(TINY.network)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, 0, 0.2)
    return model, torch.rand(4, 3, 16, 16) * 2 - 1


# Objectives


def test_the_loss_is_squared_error_and_commitment():
    model, x = model_and_images()
    decoded, z, quantised = model(x)
    for weight in (0.0, 0.25, 1.0):
        loss = VectorQuantised(weight)(Networks(model), x, None, Draw(()))
        torch.testing.assert_close(loss.total, F.mse_loss(decoded, x) + weight * quantised.distance)
    torch.testing.assert_close(loss.picture, decoded.clamp(-1, 1))
    assert loss.parts["perplexity"] <= 16
    assert torch.equal(loss.moves["vectors"], z.movedim(1, -1).reshape(-1, 3)) and not loss.moves["vectors"].requires_grad
    assert torch.equal(loss.moves["counts"], quantised.counts) and torch.equal(loss.moves["sums"], quantised.sums)


def test_nothing_moves_on_a_fixed_grid():
    torch.manual_seed(0)
    model = VQVAE(VQ(SIZES, FSQ((3, 4, 5))))
    loss = VectorQuantised()(Networks(model), torch.zeros(2, 3, 16, 16), None, Draw(()))
    assert loss.moves == {} and loss.parts["commitment"] == 0 and loss.parts["perplexity"] == pytest.approx(1, abs=1e-4)


def test_the_encoder_learns_what_the_decoder_s_input_is_told():
    """The reconstruction's gradient at the encoder's output equals that at the decoder's input."""
    model, x = model_and_images()
    z = model.encoder(x)
    quantised = model.quantiser(z)
    loss = (x - model.decoder(quantised.z)).square().mean()
    at_encoder, at_decoder = torch.autograd.grad(loss, (z, quantised.z))
    assert torch.equal(at_encoder, at_decoder) and at_encoder.abs().max() > 0


def test_commitment_reaches_the_encoder_alone():
    model, x = model_and_images()
    loss = VectorQuantised(1.0)(Networks(model), x, None, Draw(()))
    loss.parts["commitment"].backward()
    assert all(p.grad is not None for p in model.encoder.parameters())
    assert all(p.grad is None for p in model.decoder.parameters())


def test_perceptual_term():
    x, picture = torch.zeros(2, 3, 4, 4), torch.full((2, 3, 4, 4), 0.5, requires_grad=True)
    start = Loss(torch.tensor(7.0), {"before": torch.tensor(1.0)}, picture=picture)
    loss = with_perceptual(start, x, lambda a, b: (a - b).flatten(1).mean(1), 3.0)
    assert loss.total.item() == 8.5 and loss.parts["perceptual"] == 0.5 and loss.parts["before"] == 1
    loss.total.backward()
    assert (picture.grad > 0).all()


def linear_game():
    """A decoder of one number, and a discriminator that likes large ones."""
    last = nn.Parameter(torch.tensor([2.0]))
    judge = nn.Linear(1, 1, bias=False)
    judge.weight.data.fill_(5.0)
    picture = last * torch.ones(3, 1)
    return last, judge, picture


def test_the_weight_makes_both_pull_equally():
    last, judge, picture = linear_game()
    rest = (picture - 6).square().mean()  # gradient 2 * (2 - 6) = -8
    adversarial = -judge(picture).mean()  # gradient -5
    assert adaptive_weight(rest, adversarial, last).item() == pytest.approx(8 / 5, rel=1e-4)
    assert not adaptive_weight(rest, adversarial, last).requires_grad
    for share, expected in ((1.0, -16.0), (0.5, -12.0), (0.0, -8.0)):
        last, judge, picture = linear_game()
        loss = with_adversary(Loss((picture - 6).square().mean(), {}, picture=picture), judge, last, share)
        loss.total.backward()
        assert last.grad.item() == pytest.approx(expected, rel=1e-4)
        assert judge.weight.grad is None and judge.weight.requires_grad
    assert loss.parts["adversarial"] == -10


def test_the_weight_stays_finite():
    last, judge, picture = linear_game()
    judge.weight.data.zero_()
    assert adaptive_weight((picture - 6).square().mean(), -judge(picture).mean(), last) == pytest.approx(1e4)


def test_hinge_written_out():
    real, made = torch.tensor([[3.0], [0.5], [-1.0]]), torch.tensor([[-2.0], [0.25], [-0.5]])
    loss = discriminator_loss(nn.Identity(), real, made)
    assert loss.total.item() == pytest.approx(((0 + 0.5 + 2) / 3 + (0 + 1.25 + 0.5) / 3) / 2)
    assert loss.parts["accuracy"].item() == pytest.approx((2 / 3 + 2 / 3) / 2)


def test_beyond_the_margin_nothing_is_gained():
    real, made = torch.tensor([1.5, 0.9], requires_grad=True), torch.tensor([-1.5, -0.9])
    discriminator_loss(nn.Identity(), real, made).total.backward()
    assert real.grad.tolist() == [0, -0.25]


# Training


@pytest.mark.parametrize("recipe", [TINY, KL], ids=["vq", "kl"])
def test_all_learn_and_only_the_model_is_kept(recipe, tmp_path):
    run = run_to_the_end(recipe, tmp_path)
    before = vae.sampling.build(recipe).model.state_dict(), vae.sampling.build_discriminator(recipe).state_dict()
    for network, first in zip(run.networks, before):
        for name, value in network.named_parameters():
            if name != "layers.5.bias":  # while all verdicts lie within the margin, its gradient is 1 - 1
                assert not torch.equal(value, first[name]), name
    for name in ("perceptual", "adversarial", "adaptive_weight", "discriminator", "accuracy"):
        assert name in run.losses
    newest = checkpoint.list_checkpoints(tmp_path)[-1]
    trained, averaged = (checkpoint.read_tensors(newest / f"{file}.safetensors") for file in ("weights", "ema"))
    assert {key.split(".")[0] for key in trained} == {"model", "discriminator"}
    assert {key.split(".")[0] for key in averaged} == {"model"}
    (model,), again = vae.load(tmp_path)
    assert again == recipe and model.state_dict().keys() == before[0].keys()


def test_resuming_changes_nothing(tmp_path):
    for _ in vae.train(replace(TINY), tmp_path / "whole", "cpu"):
        pass
    for run in vae.train(TINY, tmp_path / "halves", "cpu"):
        if run.images_seen == 24:
            break
    run_to_the_end(TINY, tmp_path / "halves")
    for file in ("weights", "ema"):
        one, two = (
            checkpoint.read_tensors(checkpoint.list_checkpoints(tmp_path / name)[-1] / f"{file}.safetensors")
            for name in ("whole", "halves")
        )
        assert one.keys() == two.keys()
        assert all(torch.equal(one[key], two[key]) for key in one)
    state = [checkpoint.read_state(checkpoint.list_checkpoints(tmp_path / n)[-1] / "train_state.pt") for n in ("whole", "halves")]
    moments = [s["discriminator"]["state"][0]["exp_avg"] for s in state]
    assert torch.equal(*moments)


VARIANTS = {
    "commitment": replace(TINY, objective=VectorQuantised(0.5)),
    "perceptual": replace(TINY, perceptual=0.2),
    "no perceptual": replace(TINY, perceptual=0.0),
    "no adversary": replace(TINY, adversary=None),
    "adversary's weight": replace(TINY, adversary=replace(TINY.adversary, weight=0.4)),
    "adversary's start": replace(TINY, adversary=replace(TINY.adversary, start=24)),
    "adversary's optimiser": replace(TINY, adversary=replace(TINY.adversary, optimiser=replace(TINY.optimiser, lr=1e-2))),
    "adversary's size": replace(TINY, adversary=replace(TINY.adversary, network=PatchGAN(width=16, strided=1))),
    "codebook's decay": replace(TINY, network=VQ(SIZES, Codebook(16, decay=0.5))),
    "codebook's restarts": replace(TINY, network=VQ(SIZES, Codebook(16, restart_below=0.0))),
    "codebook's size": replace(TINY, network=VQ(SIZES, Codebook(8))),
    "grid": replace(TINY, network=VQ(SIZES, FSQ((3, 3, 3)))),
}


@pytest.fixture(scope="module")
def last_weights():
    return run_to_the_end(TINY).networks.model.decoder.head.weight


@pytest.mark.parametrize("name", VARIANTS)
def test_every_option_changes_what_is_learnt(name, last_weights):
    run = run_to_the_end(VARIANTS[name])
    assert all(torch.isfinite(p).all() for p in run.networks.model.parameters())
    assert not torch.equal(run.networks.model.decoder.head.weight, last_weights)


def test_before_its_start_the_adversary_learns_and_changes_nothing():
    late = replace(TINY, images=16, adversary=replace(TINY.adversary, start=100))
    alone = run_to_the_end(replace(late, adversary=None))
    run = run_to_the_end(late)
    for (name, ours), theirs in zip(run.networks.model.named_parameters(), alone.networks.model.parameters()):
        assert torch.equal(ours, theirs), name
    first = vae.sampling.build_discriminator(late).state_dict()
    assert not torch.equal(run.networks.discriminator.state_dict()["layers.0.weight"], first["layers.0.weight"])


def test_the_codebook_follows_the_encoder():
    run = run_to_the_end(replace(TINY, perceptual=0.0, adversary=None, images=8))
    model = vae.sampling.build(TINY).model
    batch = vae.loop.Batches(TINY.data.load("train"), 8, 0).at(0)
    counts, sums = torch.zeros(16), torch.zeros(16, 3)
    for vector in model.encoder(batch.x).movedim(1, -1).reshape(-1, 3):
        nearest = (vector - model.quantiser.codebook).norm(dim=1).argmin()
        counts[nearest] += 1
        sums[nearest] += vector.detach()
    chosen, trained = counts > 0.01 * counts.mean(), run.networks.model.quantiser
    torch.testing.assert_close(trained.codebook[chosen], (sums / counts[:, None])[chosen], rtol=1e-4, atol=1e-5)
    vectors = model.encoder(batch.x).movedim(1, -1).reshape(-1, 3)
    for codeword in trained.codebook[~chosen]:  # restarted where the batch is
        assert (vectors - codeword).norm(dim=1).min() < 1e-5


def test_micro_batches_move_the_codebook_alike():
    plain = replace(TINY, perceptual=0.0, adversary=None, images=8)
    whole, pieces = (run_to_the_end(each).networks.model for each in (plain, replace(plain, micro_batches=2)))
    torch.testing.assert_close(pieces.quantiser.codebook, whole.quantiser.codebook, rtol=1e-4, atol=1e-5)


def test_a_card_tells_bits_and_reconstructions():
    model = run_to_the_end(replace(TINY, images=8)).averaged, TINY
    found = {each["name"]: each["value"] for each in vae.measure(model)}
    held = TINY.data.load("heldout")
    x, made = to_float(held.images), vae.reconstruct(model, held.images)
    ratio = (10 * (4 / (x - made).square().mean((1, 2, 3))).log10()).mean().item()
    assert found["peak signal-to-noise ratio of reconstructions, dB"] == pytest.approx(ratio)
    assert found["bits of an image's codes by their number"] == 8 * 8 * 4
    assert 0 <= found["bits of an image's codes by their frequencies"] < 8 * 8 * 4
    images, pictures = vae.heldout_pairs(model, 5)
    assert torch.equal(images[0], held.images[0]) and torch.equal(images[-1], held.images[-1])
    torch.testing.assert_close(pictures[-1], made[-1], rtol=1e-4, atol=1e-5)


def test_a_card_tells_the_spread_of_latent_channels():
    model = run_to_the_end(replace(KL, images=8)).averaged, KL
    found = {each["name"]: each["value"] for each in vae.measure(model)}
    means = model[0].model.encode(to_float(KL.data.load("heldout").images))[0]
    for channel in range(3):
        expected = means[:, channel].std().item()
        assert found[f"standard deviation of latent channel {channel}"] == pytest.approx(expected, rel=1e-3)


def test_a_quantised_model_draws_nothing():
    run = run_to_the_end(replace(TINY, images=8))
    assert not vae.draws(TINY)
    with pytest.raises(InputError, match="no prior"):
        vae.sample((run.averaged, TINY), 4, 0)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda: replace(TINY, perceptual=-1.0), "perceptual"),
        (lambda: replace(KL, objective=vae.IWAE(Gaussian(0.1))), "adversary"),
        (lambda: replace(TINY, adversary=Adversary(PatchGAN(channels=1))), "adversary.network.channels"),
        (lambda: Adversary(weight=-1.0), "weight"),
        (lambda: Adversary(start=-1), "start"),
        (lambda: VectorQuantised(-0.1), "commitment"),
    ],
)
def test_bad_settings_are_named(change, word):
    with pytest.raises(InputError, match=word):
        change()
