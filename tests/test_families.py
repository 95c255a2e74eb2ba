"""Families are found by their doors, and a folder by the type of its recipe."""

import inspect
import json
import typing

import pytest

from gencore import families, gan, metrics, zoo
from gencore.errors import InputError
from gencore.training.run import Run


def test_every_family_has_the_same_doors():
    """The first parameters have the same names everywhere, so that nobody needs to know which family it is."""
    found = families.families()
    assert {"autoregressive", "diffusion", "gan", "metrics", "vae"} <= found.keys()
    doors = {
        "train": ["recipe", "folder", "device", "log", "compile"],
        "load": ["folder"],
        "sample": ["model", "count", "seed", "first"],
        "draws": ["recipe"],
        "measure": ["model"],
        "parameters": ["model"],
    }
    for family in found.values():
        assert hasattr(family, "train") and hasattr(family, "load")
        for door, parameters in doors.items():
            if hasattr(family, door):
                taken = list(inspect.signature(getattr(family, door)).parameters)
                assert taken[: len(parameters)] == parameters, f"{family.__name__}.{door}"
        assert typing.get_type_hints(family.train)["return"] == typing.get_type_hints(gan.train)["return"]
        assert typing.get_args(typing.get_type_hints(family.train)["return"]) == (Run,)


@pytest.mark.parametrize("name", families.recipes())
def test_every_recipe_says_what_it_returns(name):
    """By that type its runs are known."""
    function = families.recipes()[name]
    assert type(function()) is typing.get_type_hints(function)["return"]


@pytest.mark.parametrize("name", zoo.names())
def test_a_folder_is_read_by_the_family_that_trained_it(name):
    family, recipe = families.read(zoo.folder(name))
    assert family.__name__.split(".")[-1] == zoo.card(name)["recipe"].split(".")[0]
    assert recipe == families.recipes()[zoo.card(name)["recipe"]]()


def test_a_folder_of_no_family_is_one_error(tmp_path):
    with pytest.raises(InputError, match="recipe.json: file is missing"):
        families.read(tmp_path)
    (tmp_path / "recipe.json").write_text(json.dumps({"type": "os.system"}))
    with pytest.raises(InputError, match="type 'os.system' is not one of .*ClassifierRecipe, .*GANRecipe"):
        families.read(tmp_path)


def test_who_draws_and_with_how_many_parameters():
    judge, pair = metrics.load(zoo.folder("digit_classifier")), gan.load(zoo.folder("dcgan_digits"))
    assert not families.draws(metrics, judge[1]) and families.draws(gan, pair[1])
    assert families.parameters(metrics, judge) == zoo.card("digit_classifier")["parameters"]
    assert families.parameters(gan, pair) == zoo.card("dcgan_digits")["parameters"]
