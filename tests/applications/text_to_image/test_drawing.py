"""Prompts, the pictures that are drawn for them, where words are looked at, and the command."""

from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch import nn

from gencore import diffusion
from gencore.applications import text_to_image
from gencore.applications.text_to_image import draw, draw_with_maps, read_prompt, told
from gencore.applications.text_to_image.prompts import names_shapes
from gencore.cli import text_to_image as command
from gencore.data import Digits, Emoji, Shapes, wording
from gencore.data.shapes import CAPTION_LENGTH, VOCABULARY, encode
from gencore.data.told import ask
from gencore.diffusion import DiffusionRecipe, Sampling
from gencore.diffusion.sampling import build
from gencore.errors import InputError
from gencore.networks.autoencoder import Autoencoder
from gencore.networks.denoising import DenoisingUNet
from gencore.networks.latent import Latent
from gencore.networks.text import TextEncoder
from gencore.networks.text_unet import TextUNet, attention_maps
from gencore.networks.transformer import Transformer
from gencore.networks.unet import UNet
from gencore.networks.vae import VAE

READER = Transformer(8, 1, 2)
UNET = UNet(3, width=8, multipliers=(1, 2), embedding=8, heads=2, context=8)
SHAPES = DiffusionRecipe(
    data=Shapes(size=16, images=20),
    network=TextUNet(16, UNET, TextEncoder(len(VOCABULARY), CAPTION_LENGTH, READER)),
    told=("caption",),
    sampling=Sampling("dpm_solver", steps=3, guidance=2.0),
    images=16,
    batch_size=16,
)
STYLED = DiffusionRecipe(
    data=Emoji(("noto", "twemoji"), size=8),
    network=TextUNet(8, UNET, TextEncoder(len(wording.vocabulary(Emoji())), wording.EMOJI_LENGTH, READER), (2, 2)),
    told=("caption", "style"),
    mirror=True,
    sampling=Sampling("euler", steps=2, guidance=2.0),
    images=16,
    batch_size=16,
)
SQUARE = "two small red circles above a blue square"


def awake(recipe):
    """A model in which nothing is zero any more."""
    networks = build(recipe)
    for number, parameter in enumerate(networks.model.parameters()):
        nn.init.normal_(parameter, std=0.2, generator=torch.Generator().manual_seed(number))
    return networks, recipe


@pytest.fixture(scope="module")
def shapes_model():
    return awake(SHAPES)


@pytest.fixture(scope="module")
def emoji_model():
    return awake(STYLED)


# Prompts


def test_a_sentence_of_the_grammar_asks_for_shapes_however_it_is_written():
    assert names_shapes(SQUARE) and names_shapes("  Two small RED circles, above a blue square! ")
    assert not names_shapes("a red heart") and not names_shapes("red circle") and not names_shapes("")
    assert read_prompt(Shapes(), "A  red circle.", 36) == text_to_image.Prompt("a red circle")


def test_of_emoji_what_is_not_known_is_left_out_and_said():
    prompt = read_prompt(Emoji(), "A purpel heart, 狗 qqqqqq", 16)
    assert prompt.text == "a heart 狗" and len(prompt.left_out) == 2
    assert prompt.left_out[0].startswith("purpel (near: purple") and prompt.left_out[1] == "qqqqqq"
    assert read_prompt(Emoji(), "red heart", 16).left_out == ()


@pytest.mark.parametrize(
    ("data", "prompt", "message"),
    [
        (Shapes(), "a red cirle", r"unknown words: cirle \(near: circle, circles\). Pictures of shapes know: a, an, two"),
        (Shapes(), "a red circle above two stars", "where the grammar wants a or an"),
        (Emoji(), "qqqqqq", "no word that emoji have: qqqqqq; say it in other words"),
        (Emoji(), " ?! ", "the prompt is empty"),
        (Shapes(), "", "the prompt is empty"),
        (Emoji(), "heart " * 16, "the prompt has 16 words; this model reads at most 15"),
        (Shapes(), " and ".join(["a red circle"] * 10), "the prompt has 39 words; this model reads at most 35"),
    ],
)
def test_a_prompt_that_cannot_be_read_is_one_clear_sentence(data, prompt, message):
    with pytest.raises(InputError, match=message):
        read_prompt(data, prompt, CAPTION_LENGTH if isinstance(data, Shapes) else wording.EMOJI_LENGTH)


def test_words_and_style_become_what_the_model_is_told():
    assert torch.equal(told(SHAPES, SQUARE + "."), encode([SQUARE]))
    cond = told(STYLED, "red heart", "twemoji")
    assert torch.equal(cond[:, :-1], wording.encode(Emoji(), ["red heart"], wording.EMOJI_LENGTH)) and cond[0, -1] == 1
    assert told(STYLED, "red heart")[0, -1] == 2  # any style
    with pytest.raises(InputError, match="style 'fluent3d': choose one of noto, twemoji"):
        told(STYLED, "red heart", "fluent3d")
    with pytest.raises(InputError, match="style 'noto': this model draws in one style only"):
        told(SHAPES, SQUARE, "noto")
    plain = replace(SHAPES, network=DenoisingUNet(16, replace(UNET, context=0)), told=())
    with pytest.raises(InputError, match="it is told no captions"):
        told(plain, SQUARE)


# Pictures


def test_pictures_are_those_of_the_family(shapes_model):
    images = draw(shapes_model, SQUARE, 3, seed=5)
    expected = diffusion.sample(shapes_model, 3, 5, cond=ask(SHAPES, [SQUARE] * 3))
    assert torch.equal(images, expected) and images.shape == (3, 3, 16, 16)
    torch.testing.assert_close(draw(shapes_model, SQUARE, 1, seed=5, first=2)[0], images[2], atol=1e-5, rtol=1e-4)
    assert (draw(shapes_model, "a green star", 3, seed=5) - images).abs().amax((1, 2, 3)).min() > 1e-3
    plain = draw(shapes_model, SQUARE, 3, seed=5, guidance=1.0)
    how = replace(SHAPES.sampling, guidance=1.0)
    assert torch.equal(plain, diffusion.sample(shapes_model, 3, 5, cond=ask(SHAPES, [SQUARE] * 3), sampling=how))
    assert not torch.equal(plain, images)


def test_the_style_matters(emoji_model):
    one, other, any_style = (draw(emoji_model, "red heart", 2, 0, style=style) for style in ("noto", "twemoji", None))
    assert (one - other).abs().max() > 1e-3 and (one - any_style).abs().max() > 1e-3


def test_each_picture_is_the_best_of_its_own_tries(shapes_model):
    """By a scorer that likes bright pictures, and is shown the caption."""
    asked = []

    def bright(images, captions):
        asked.extend(captions)
        return images.mean((1, 2, 3))

    best = draw(shapes_model, SQUARE + "!", 2, seed=1, best=4, scorer=bright)
    tries = draw(shapes_model, SQUARE, 8, seed=1).unflatten(0, (2, 4))
    expected = [each[each.mean((1, 2, 3)).argmax()] for each in tries]
    assert torch.equal(best, torch.stack(expected)) and asked == [SQUARE] * 8
    later = draw(shapes_model, SQUARE, 1, seed=1, first=1, best=4, scorer=bright)
    torch.testing.assert_close(later[0], best[1], atol=1e-5, rtol=1e-4)
    with pytest.raises(InputError, match="best 2: needs a scorer"):
        draw(shapes_model, SQUARE, 1, 0, best=2)
    with pytest.raises(InputError, match="count 0, best 1"):
        draw(shapes_model, SQUARE, 0, 0)


# Where words are looked at


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_maps_come_with_the_picture_that_would_have_been_drawn(shapes_model, guidance):
    networks, recipe = shapes_model
    model = networks, replace(recipe, sampling=replace(recipe.sampling, guidance=guidance))
    looked = draw_with_maps(model, SQUARE, seed=3, number=1)
    torch.testing.assert_close(looked.image, draw(model, SQUARE, 2, seed=3)[1], atol=1e-5, rtol=1e-4)
    assert looked.words == [*SQUARE.split(), "<end>"] and looked.maps.shape == (9, 8, 8)
    assert (looked.maps > 0).all() and (looked.maps.sum(0) < 1).all()  # the rest goes to what fills the row


def test_maps_are_the_mean_over_the_steps(shapes_model, monkeypatch):
    seen = []

    def spy(network, x_t, t, cond):
        assert torch.equal(cond, ask(SHAPES, [SQUARE]))  # where it is told, not where it is not
        seen.append(attention_maps(network, x_t, t, cond))
        return seen[-1]

    monkeypatch.setattr("gencore.applications.text_to_image.attention.attention_maps", spy)
    looked = draw_with_maps(shapes_model, SQUARE, seed=3)
    assert len(seen) >= SHAPES.sampling.steps
    torch.testing.assert_close(looked.maps, torch.stack(seen).mean(0)[0, :9])
    assert (seen[0] - seen[-1]).abs().max() > 1e-6


def test_codes_have_maps_too_and_other_networks_have_none(emoji_model):
    first = Autoencoder(size=16, channels=3, latent=3, flat=False, width=8, multipliers=(1, 2))
    recipe = replace(SHAPES, network=Latent(first, replace(SHAPES.network, size=8)), first_stage="some_autoencoder")
    model = awake(recipe)
    model[0].model.adopt(VAE(first))
    looked = draw_with_maps(model, SQUARE, seed=3)
    torch.testing.assert_close(looked.image, draw(model, SQUARE, 1, seed=3)[0], atol=1e-5, rtol=1e-4)
    assert looked.maps.shape == (9, 4, 4)
    styled = draw_with_maps(emoji_model, "red heart", seed=0, style="twemoji")
    torch.testing.assert_close(styled.image, draw(emoji_model, "red heart", 1, 0, style="twemoji")[0], atol=1e-5, rtol=1e-4)
    plain = replace(SHAPES, network=DenoisingUNet(16, replace(UNET, context=0)), told=())
    with pytest.raises(InputError, match="only a U-Net that reads has places that look at words"):
        draw_with_maps(awake(plain), SQUARE, 0)
    noisy = replace(SHAPES, sampling=Sampling("ancestral", steps=2))
    with pytest.raises(InputError, match="steps with noise of their own are not followed"):
        draw_with_maps(awake(noisy), SQUARE, 0)


# The command


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Runs of the two tiny models, and of one that is told nothing."""
    place = tmp_path_factory.mktemp("runs")
    silent = replace(
        SHAPES, data=Digits(14), network=DenoisingUNet(14, UNet(1, width=8, multipliers=(1,), embedding=8)), told=()
    )
    for name, recipe in (("latent_shapes", SHAPES), ("text_emoji64", STYLED), ("silent", silent)):
        recipe = replace(recipe, images=32, log_every=16, checkpoint_every=32)
        for state in diffusion.train(recipe, place / name, device="cpu"):
            for number, p in enumerate([*state.networks.model.parameters(), *state.averaged.model.parameters()]):
                nn.init.normal_(p, std=0.2, generator=torch.Generator().manual_seed(number))  # or else it draws grey
    return place


@pytest.fixture
def at_home(folders, monkeypatch, tmp_path):
    """Where names of models are those of the runs' folders."""
    monkeypatch.chdir(folders)
    return tmp_path


def test_the_prompt_chooses_the_model(at_home, capsys):
    command.run([SQUARE, "--out", str(at_home / "a.png"), "--device", "cpu"])
    said = capsys.readouterr()
    assert f"'{SQUARE}' drawn 4 times by latent_shapes, seed 0" in said.out and not said.err
    with Image.open(at_home / "a.png") as page:
        assert page.size == (4 * 16 * 4, 16 * 4)
    command.run(["爱 purpel heart", "--out", str(at_home / "b.jpg"), "--count", "3", "--columns", "2", "--scale", "2", "--device", "cpu"])
    said = capsys.readouterr()
    assert "'爱 heart' drawn 3 times by text_emoji64" in said.out and "left out, since no training picture has it: purpel" in said.err
    with Image.open(at_home / "b.jpg") as page:
        assert page.size == (2 * 8 * 2, 2 * 8 * 2)


def test_the_same_seed_draws_the_same_and_other_options_do_not(at_home):
    def drawn(name, *more):
        out = at_home / f"{name}.png"
        command.run([SQUARE, "--out", str(out), "--count", "20", "--columns", "20", "--scale", "1", "--device", "cpu", *more])
        with Image.open(out) as page:
            return page.tobytes()

    first = drawn("first")
    assert drawn("again") == first
    assert len({first, drawn("seed", "--seed", "1"), drawn("guided", "--guidance", "4")}) == 3
    with pytest.raises(InputError, match="exists already"):
        drawn("first")
    assert drawn("first", "--overwrite") == first


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([SQUARE, "--count", "0"], "--count 0: must be from 1 to 256"),
        ([SQUARE, "--scale", "99"], "--scale 99: must be from 1 to 32"),
        ([SQUARE, "--best-of", "0"], "--best-of 0: must be from 1 to 64"),
        ([SQUARE, "--model", "silent"], "--model silent: draws nothing from words; choose one such as latent_shapes"),
        ([SQUARE, "--model", "nobody"], "no model named 'nobody'"),
        (["a red heart", "--model", "latent_shapes"], "unknown words: heart"),
        (["a red heart", "--style", "oil"], "style 'oil': choose one of noto, twemoji"),
        (["a red heart", "--best-of", "2"], "--best-of 2: only pictures of shapes can be compared"),
        ([" "], "the prompt is empty"),
        (["qqqqqq"], "no word that emoji have"),
    ],
)
def test_bad_requests_are_one_clear_error_and_leave_nothing(at_home, arguments, message):
    with pytest.raises(InputError, match=message):
        command.run([*arguments, "--out", str(at_home / "never.png"), "--device", "cpu"])
    assert not list(at_home.iterdir())


def test_a_file_of_an_unknown_format_is_refused(at_home):
    with pytest.raises(InputError, match="must end in .png"):
        command.run([SQUARE, "--out", str(at_home / "a.tiff")])
