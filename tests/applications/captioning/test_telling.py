"""Searching for words: greedily, with beams, and by trying all; where the network looks; folders."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from gencore import families
from gencore.applications import captioning
from gencore.applications.captioning import Search, log_probability, looks, tell
from gencore.applications.captioning.telling import build, text_of
from gencore.data import wording
from gencore.data.wording import END, UNKNOWN
from gencore.errors import InputError
from tests.applications.captioning.tiny import KINDS, NAMES, TINY

each_kind = pytest.mark.parametrize("recipe", KINDS.values(), ids=KINDS)


def model(recipe, std=0.5):
    networks = build(recipe)
    for number, parameter in enumerate(networks.model.parameters()):
        nn.init.normal_(parameter, std=std, generator=torch.Generator().manual_seed(number))
    return type(networks)(networks.model.eval().requires_grad_(False)), recipe


def short(recipe, length):
    return replace(recipe, network=replace(recipe.network, length=length))


@each_kind
@pytest.mark.parametrize("search", [Search(), Search(3, 0.0), Search(3, 1.0), Search(1, 0.0)], ids=repr)
def test_what_is_said_has_the_probability_that_is_said(recipe, search):
    """Also after the memories of beams were exchanged; and it ends, and has no unknown words."""
    speaker, images = model(recipe), recipe.data.load("heldout").images[:7]
    for language in recipe.languages:
        told = tell(speaker, images, language, search)
        torch.testing.assert_close(told.log_p, log_probability(speaker, images, told.ids, language), rtol=1e-4, atol=1e-4)
        assert (told.ids[:, -1] == END).all() and told.texts == [text_of(recipe, row, language) for row in told.ids]
        assert recipe is TINY or not (told.ids == UNKNOWN).any()
        pieces = tell(speaker, images, language, search, batch_size=3)
        assert torch.equal(pieces.ids, told.ids)


def test_the_greedy_way_takes_the_likeliest_word_each_time():
    speaker, images = model(TINY), TINY.data.load("heldout").images[:5]
    ids = tell(speaker, images).ids
    log_p = speaker[0].model(images.float() / 127.5 - 1, ids, torch.zeros(5).long()).log_softmax(2)
    for row, probabilities in zip(ids, log_p, strict=True):
        for place, word in enumerate(row[:-1].tolist()):
            assert word == probabilities[place].argmax()
            if word == END:
                break


@pytest.mark.parametrize("longer", [0.0, 0.7, 1.0])
def test_with_enough_beams_the_best_of_all_captions_is_found(longer):
    """All captions of up to two words, of a network with four words, tried one by one."""
    recipe = short(TINY, 3)
    speaker = model(recipe)
    network, keep = speaker[0].model, [END, 8, 16, 28]
    with torch.no_grad():  # all other words are out of the question
        network.bias.fill_(-1e4)
        network.bias[keep] = 0
        network.table.weight.mul_(0.3)
    images = recipe.data.load("heldout").images[:6]
    ways = [(END, END, END)] + [(a, END, END) for a in keep[1:]] + [(a, b, END) for a, b in itertools.product(keep[1:], repeat=2)]
    values = torch.stack([
        log_probability(speaker, images, torch.tensor([way] * 6)) / (1 + sum(word != END for word in way)) ** longer
        for way in ways
    ])  # fmt: skip
    told = tell(speaker, images, search=Search(16, longer))
    assert told.ids.tolist() == [list(ways[best]) for best in values.argmax(0)]
    greedy = tell(speaker, images, search=Search(1, longer))
    assert (told.log_p / (1 + (told.ids != END).sum(1)) ** longer >= greedy.log_p / (1 + (greedy.ids != END).sum(1)) ** longer - 1e-5).all()


def test_length_counts():
    """An end has the probability 0.3, one word 0.6: no word costs least in all, two words cost least a word."""
    speaker, images = model(short(TINY, 3)), TINY.data.load("heldout").images[:2]
    with torch.no_grad():
        for parameter in speaker[0].model.parameters():
            parameter.zero_()
        speaker[0].model.bias.fill_(math.log(0.1 / (TINY.network.words - 2)))
        speaker[0].model.bias[END], speaker[0].model.bias[8] = math.log(0.3), math.log(0.6)
    for longer, words in ((0.0, 0), (1.0, 2)):
        told = tell(speaker, images, search=Search(4, longer))
        assert told.ids.tolist() == [[8] * words + [END] * (3 - words)] * 2
        torch.testing.assert_close(told.log_p, torch.full((2,), words * math.log(0.6) + math.log(0.3)))


def test_the_scorer_says_how_probable_captions_are():
    speaker, data = model(TINY), TINY.data.load("heldout")
    found = captioning.scorer(speaker, batch_size=3)(data.images[:7], data.captions[:7])
    ids = wording.encode(TINY.data, data.captions[:7], TINY.network.length)
    torch.testing.assert_close(found, log_probability(speaker, data.images[:7], ids))


def test_languages():
    speaker, images = model(NAMES), NAMES.data.load("heldout").images[:3]
    assert not torch.equal(tell(speaker, images, "en").ids, tell(speaker, images, "zh").ids)
    with pytest.raises(InputError, match="language 'zh': this model writes en"):
        tell(model(TINY), TINY.data.load("heldout").images[:1], "zh")
    row = wording.encode(NAMES.data, ["red apple"], 16)[0]
    assert text_of(NAMES, row) == "red apple"
    assert text_of(NAMES, wording.encode(NAMES.data, ["红苹果"], 16)[0], "zh") == "红苹果"


def test_where_it_looks_belongs_to_the_words():
    speaker, image = model(TINY), TINY.data.load("heldout").images[0]
    caption = wording.encode(TINY.data, ["a red circle"], TINY.network.length)
    words, maps = looks(speaker, image, caption[0])
    assert words == ["a", "red", "circle"] and maps.shape == (3, 4, 4)
    whole = speaker[0].model.looks(image[None].float() / 127.5 - 1, caption, torch.tensor([0]))
    torch.testing.assert_close(maps, whole[0, :3])


def test_nothing_is_said_of_no_pictures():
    told = tell(model(TINY), torch.empty(0, 3, 16, 16, dtype=torch.uint8))
    assert told.texts == [] and told.ids.shape == (0, TINY.network.length) and told.log_p.shape == (0,)


def test_a_loaded_run_says_what_its_average_says(tmp_path):
    recipe = replace(NAMES, images=32)
    for state in captioning.train(recipe, tmp_path / "run", device="cpu"):
        pass
    family, found = families.read(tmp_path / "run")
    assert family is captioning and found == recipe and not families.draws(family, recipe)
    loaded = families.load(tmp_path / "run")
    images = NAMES.data.load("heldout").images[:4]
    assert torch.equal(tell(loaded, images).ids, tell((state.averaged, recipe), images).ids)
    assert not loaded[0].model.training and families.parameters(family, loaded) == sum(p.numel() for p in loaded[0].model.parameters())


@pytest.mark.parametrize(("change", "message"), [(dict(beams=0), "beams 0"), (dict(longer=1.5), "longer 1.5"), (dict(longer=-1.0), "longer -1")])
def test_nonsense_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        Search(**change)
