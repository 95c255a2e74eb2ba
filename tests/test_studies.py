"""Tables of studies: what a tool writes is what a chapter reads, and a new table leaves the others as they are."""

from pathlib import Path

import pytest
import torch

from gencore import families, zoo
from tools import best_of_study, steps_study, studies


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "ROOT", tmp_path)
    monkeypatch.setattr(studies, "FOLDER", tmp_path / zoo.STUDIES)
    return tmp_path / zoo.STUDIES


def test_what_is_written_is_read(folder):
    rows = [{"steps": 3, "distance": 12.25}, {"steps": 5, "distance": 1 / 3}]
    studies.write("walks", rows)
    studies.write("scales", rows, digits=7)
    assert zoo.study("walks") == [{"steps": 3.0, "distance": 12.25}, {"steps": 5.0, "distance": 0.33333}]
    assert zoo.study("scales")[1]["distance"] == 0.3333333  # and the first is still vouched for
    studies.write("walks", rows[:1])
    assert len(zoo.study("walks")) == 1 and len(zoo.study("scales")) == 2


def test_what_is_kept_is_not_made_again(tmp_path):
    path, made = tmp_path / "features.pt", []

    def make():
        made.append(1)
        return torch.arange(3.0)

    for _ in range(2):
        assert torch.equal(studies.kept(path, make), torch.arange(3.0))
    assert made == [1] and [each.name for each in tmp_path.iterdir()] == ["features.pt"]

    def broken():
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        studies.kept(tmp_path / "other.pt", broken)
    assert not (tmp_path / "other.pt").exists()


def test_each_way_of_the_steps_study_is_a_row_of_its_own():
    recipes = families.recipes()
    for number, name in enumerate(steps_study.MODELS):
        recipe = recipes[f"autoregressive.recipes.{name}"]()
        ways = list(steps_study.ways(number, recipe))
        keys = {steps_study.key_of(number, recipe, how) for how in ways}
        assert ways[0] == recipe.sampling and len(keys) == len(set(ways))
        steps = {key[1] for key in keys}
        assert steps == [{64}, {*steps_study.STEPS, *steps_study.LONG}, {6}, {784}, {196}][number]


def test_the_best_of_several_is_chosen_set_by_set():
    held = torch.tensor([[[0.0], [1.0], [2.0], [3.0]], [[3.0], [2.0], [1.0], [0.0]]])  # two captions, four tries
    score = torch.tensor([[0.0, 1.0, 0.0, 1.0], [0.0, 1.0, 0.0, 1.0]])
    for n, expected in ((1, [1.5, 1.5]), (2, [2.0, 1.0]), (4, [1.0, 2.0])):  # of equal scores the first is taken
        assert best_of_study.best_of(held, score, n)[:, 0].tolist() == expected


def test_errors_of_the_best_of_several_count_captions():
    kinds = len(best_of_study.KINDS)
    held, asked = torch.tensor([[2.0], [1.0]]).expand(-1, kinds), torch.tensor([[2.0], [2.0]]).expand(-1, kinds)
    row = best_of_study.named(held, asked)
    assert row["facts"] == 0.75 and row["facts_error"] == pytest.approx(0.5**0.5 / 4)  # two captions, each off by a half


def test_a_study_starts_in_the_folder_that_is_named(monkeypatch, capsys):
    threads, given = torch.get_num_threads(), []
    monkeypatch.setattr("sys.argv", ["a_study.py", "runs/here"])
    try:
        studies.start(lambda folder: given.append((folder, torch.get_num_threads())), "What it does.")
    finally:
        torch.set_num_threads(threads)
    assert given == [(Path("runs/here"), 1)]
    monkeypatch.setattr("sys.argv", ["a_study.py", "--help"])
    with pytest.raises(SystemExit):
        studies.start(given.append, "What it does.")
    assert "What it does." in capsys.readouterr().out and len(given) == 1
