"""The view that MLflow's pages open with is in the form that they read."""

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import mlflow
import pytest

from flowers.tracking import view


def state(tag: str) -> Any:
    kind, _, packed = json.loads(tag)["state"].partition(";")
    assert kind == "deflate"
    return json.loads(zlib.decompress(base64.b64decode(packed)))


def test_view_has_columns_and_charts_in_their_order() -> None:
    shown = state(view.view_tag())
    assert shown["selectedColumns"] == list(view.COLUMNS)
    assert shown["columnOrder"][2:] == list(view.COLUMNS)
    assert set(shown["columnWidths"]) <= set(shown["columnOrder"])
    assert [(chart["type"], chart["metricKey"]) for chart in shown["compareRunCharts"]] == list(view.ACCURACY_AND_LOSS)
    (section,) = shown["compareRunSections"]
    assert {chart["metricSectionId"] for chart in shown["compareRunCharts"]} == {section["uuid"]}
    assert len({chart["uuid"] for chart in shown["compareRunCharts"]}) == len(view.ACCURACY_AND_LOSS)
    assert len(view.view_tag()) < 5000  # MLflow's limit for a tag


def test_view_is_renewed_unless_a_person_changed_it() -> None:
    tag = view.view_tag()
    assert view.needs_view(None)
    assert not view.needs_view(tag)
    older = json.loads(tag) | {"state": "deflate;"}
    assert view.needs_view(json.dumps(older))
    assert not view.needs_view(json.dumps(older | {"updatedAt": older["updatedAt"] + 1}))
    assert not view.needs_view("something else")
    assert not view.needs_view("[]")


@pytest.mark.parametrize("name", ["viewStateShareKey", "mlflow.sharedViewState.", "workflowType", "compareRunCharts"])
def test_installed_pages_know_the_names(name: str) -> None:
    build = Path(mlflow.__file__).parent / "server/js/build/static/js"
    assert any(name in file.read_text(errors="replace") for file in build.glob("main.*.js")), name
