"""Who fits whom: vectors, scores, retrieval and choices, of networks that know and of one that does not."""

from dataclasses import replace

import pytest
import torch

from gencore import families
from gencore.applications import contrastive
from gencore.applications.contrastive import changes, scoring
from gencore.data import Shapes, to_float
from gencore.data.shapes import encode
from gencore.errors import InputError
from tests.applications.contrastive.tiny import TINY


@pytest.fixture(scope="module")
def model():
    networks = scoring.build(TINY)
    return type(networks)(networks.model.eval().requires_grad_(False)), TINY


@pytest.fixture(scope="module")
def data():
    return replace(TINY.data, held_out_combinations=False).load("heldout")


def test_a_score_is_the_cosine(model, data):
    network = model[0].model
    pictures, captions = network(to_float(data.images), encode(data.captions))
    expected = (pictures * captions).sum(1)
    torch.testing.assert_close(contrastive.score(model, data.images, data.captions), expected)
    torch.testing.assert_close(contrastive.scorer(model)(to_float(data.images), list(data.captions)), expected)
    torch.testing.assert_close(contrastive.look(model, data.images, batch_size=7), pictures)
    torch.testing.assert_close(contrastive.read(model, data.captions, batch_size=7), captions)
    torch.testing.assert_close(contrastive.read(model, encode(data.captions)), captions)
    assert contrastive.score(model, data.images[:0], []).shape == (0,) and expected.abs().max() <= 1


def test_what_cannot_be_scored_is_refused(model, data):
    with pytest.raises(InputError, match="there are 2 images and 1 captions"):
        contrastive.score(model, data.images[:2], ["a circle"])
    with pytest.raises(InputError, match="unknown word 'dog'"):
        contrastive.score(model, data.images[:1], ["a dog"])


def knowing(monkeypatch, data, blind=()):
    """Vectors by what pictures and captions say, each word's number of times; of blind kinds of words nothing."""
    captions = encode(data.captions)
    ignored = torch.zeros(40, dtype=torch.bool)
    for kind, words in changes._GROUPS:
        ignored[[changes._IDS[word] for word in words]] |= kind in blind

    def read(model, told, batch_size=250):
        ids = told if isinstance(told, torch.Tensor) else encode(told)
        counts = torch.zeros(len(ids), 40).scatter_add_(1, ids, torch.ones(ids.shape))
        counts = counts.masked_fill(ignored, 0)
        counts[:, 0] = 0.1
        return torch.nn.functional.normalize(counts, dim=1)

    monkeypatch.setattr(scoring, "read", read)
    monkeypatch.setattr(scoring, "look", lambda model, images, batch_size=250: read(model, captions))


def test_a_bag_of_words_finds_all_but_the_exchanged(model, data, monkeypatch):
    knowing(monkeypatch, data)
    found = scoring.choice(model, data)
    assert all(found[kind] == (1.0, found[kind][1]) and found[kind][1] > 20 for kind in changes.KINDS if kind != "exchange")
    share, count = found["exchange"]
    assert share == 0 and count > 20  # the same words, the same vector: not better
    retrieved = scoring.retrieval(model, data)
    assert retrieved["caption"] > 0.9 and retrieved["picture"] > 0.9 and retrieved["true caption"] >= retrieved["caption"]


def test_who_does_not_see_colours_cannot_choose_by_them(model, data, monkeypatch):
    knowing(monkeypatch, data, blind=("colour",))
    found = scoring.choice(model, data)
    assert found["colour"][0] < 0.1 and found["shape"][0] == 1  # "an" tells of orange
    knowing(monkeypatch, data, blind=("colour", "shape"))
    retrieved = scoring.retrieval(model, data)
    assert retrieved["caption"] < 0.8 and retrieved["true caption"] < 0.8


def test_retrieval_by_hand(model, monkeypatch):
    """Three pictures and captions, of which two are found; a caption of other words that is true counts as true."""
    data = Shapes(16, objects=1, images=300).load("train")
    pairs = [(i, j) for i in range(40) for j in range(i) if data.meta["scene"][i].objects[0].shape != data.meta["scene"][j].objects[0].shape]
    first, second = pairs[0]
    subset = data.subset(torch.tensor([first, second, second]))
    scene = subset.meta["scene"][1].objects[0]
    plain = f"a {scene.colour} {scene.shape}".replace("a orange", "an orange")
    subset = replace(subset, captions=(subset.captions[0], plain, f"a {scene.size} {scene.colour} {scene.shape}"))
    # Picture 0 takes the caption of 1, which is not true of it; 1 takes that of 2, which is true; 2 takes its own.
    fit = torch.tensor([[0.1, 0.9, 0.0], [0.0, 0.5, 0.9], [0.0, 0.1, 0.8]])
    monkeypatch.setattr(scoring, "look", lambda model, images: fit)
    monkeypatch.setattr(scoring, "read", lambda model, captions: torch.eye(3))
    found = scoring.retrieval(model, subset)
    assert found == {"caption": pytest.approx(1 / 3), "picture": pytest.approx(1 / 3), "true caption": pytest.approx(2 / 3)}


def test_a_card_says_all_of_it(model):
    rows = contrastive.measure(model)
    names = {row["name"] for row in rows}
    assert names >= {"retrieval, caption", "retrieval, true caption", "right against a changed colour", "right against a changed exchange"}
    assert len(rows) == 3 + len(changes.KINDS) and all(0 <= row["value"] <= 1 for row in rows)
    assert {row["on"] for row in rows} == {"shapes/heldout"}


def test_a_loaded_run_scores_as_its_average(tmp_path, data):
    for state in contrastive.train(replace(TINY, images=32), tmp_path / "run", device="cpu"):
        pass
    family, recipe = families.read(tmp_path / "run")
    assert family is contrastive and not families.draws(family, recipe)
    loaded = families.load(tmp_path / "run")
    averaged = contrastive.score((state.averaged, recipe), data.images, data.captions)
    torch.testing.assert_close(contrastive.score(loaded, data.images, data.captions), averaged)
