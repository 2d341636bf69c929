"""Notebooks find their project, their photographs and their training, or say in a sentence what is missing."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from flowers.api import Evaluation, find_training, settings_for
from flowers.errors import UserError
from flowers.explain.attribution import Explanation
from flowers.notebook import project_folder, sentences


def test_the_project_is_found_from_the_folder_of_notebooks(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").touch()
    (tmp_path / "notebooks/deep").mkdir(parents=True)
    assert project_folder(tmp_path) == tmp_path
    assert project_folder(tmp_path / "notebooks/deep") == tmp_path


def test_outside_a_project_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"in no project.*make lab"):
        project_folder(tmp_path)


def test_a_data_set_is_rendered_until_the_pipeline_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert settings_for("sample").data.source is not None
    Path("artifacts/download/sample").mkdir(parents=True)
    assert settings_for("sample").data.source is not None  # not divided yet
    Path("artifacts/split").mkdir()
    Path("artifacts/split/split.csv").touch()
    data = settings_for("sample", "seed=3").data
    assert (data.root, data.split_csv) == ("artifacts/download/sample", "artifacts/split/split.csv")
    assert data.source is None
    assert data.decisions is None
    assert settings_for("herbarium").data.source is not None  # the pipeline has another one


def test_a_folder_of_photographs_may_be_called_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "My photos, May = 'good' ${x}"
    folder.mkdir()
    assert settings_for(str(folder)).data.root == str(folder)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sample").mkdir()
    assert settings_for("./sample").data.name == "folder"
    assert settings_for("sample").data.name == "sample"


def test_unknown_photographs_are_named_with_what_is_near() -> None:
    with pytest.raises(UserError, match=r"'smaple' is neither a folder nor a data set.*did you mean 'sample'"):
        settings_for("smaple")


def test_overrides_are_checked_as_on_the_command_line() -> None:
    assert settings_for("sample", "experiment=linear_scratch", "seed=7").seed == 7
    with pytest.raises(UserError, match="sead"):
        settings_for("sample", "sead=7")


def test_what_a_training_lacks_is_said_with_the_command(tmp_path: Path) -> None:
    folder = tmp_path / "train/cnn"
    with pytest.raises(UserError, match="no training yet: call `make repro`"):
        find_training(folder)
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({}))
    with pytest.raises(UserError, match=r"earlier version.*train again"):
        find_training(folder)
    (folder / "validation.npz").touch()
    with pytest.raises(UserError, match=r"not evaluated.*flowers evaluate"):
        find_training(folder)
    (tmp_path / "evaluate/cnn").mkdir(parents=True)
    assert find_training(folder).evaluated == tmp_path.resolve() / "evaluate/cnn"


def test_names_are_not_taken_for_markup() -> None:
    text = sentences(["cnn_scratch is *sure* of <b>", "two"]).data
    assert text == "- cnn\\_scratch is \\*sure\\* of \\<b\\>\n- two"


def test_each_photograph_has_a_row_of_maps_though_one_has_fewer() -> None:
    picture, values = np.zeros((4, 4, 3), np.uint8), np.ones((4, 4), np.float32)
    colours: Any = np.ones((4, 4, 3), np.float32)
    right = Explanation(0, picture, 1, 1, 0.8, 0.8, colours, None, values, None, True, None, values)
    wrong = replace(right, truth=0, cam_truth=values)
    evaluation: Any = SimpleNamespace(classes=["daisy", "roses"])
    explained: Any = SimpleNamespace(each=[right, wrong, right])
    heights = [round(axes.get_position().y0, 3) for axes in Evaluation.maps(evaluation, explained).axes]
    assert [heights.count(height) for height in dict.fromkeys(heights)] == [3, 4, 3]
