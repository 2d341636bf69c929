"""Pictures are called what they are."""

from pathlib import Path

import pytest

from flowers.report.html import noun_of


@pytest.mark.parametrize(
    ("dataset", "noun"),
    [
        *((name, "illustration") for name in ("sample", "species", "herbarium", "other_plants")),
        *(
            (name, "photograph")
            for name in ("flower_photos", "oxford102", "folder", "archive", "garden", "../sample", "")
        ),
    ],
)
def test_a_data_set_that_is_rendered_holds_no_photographs(dataset: str, noun: str) -> None:
    assert noun_of(dataset) == noun


def test_a_project_names_its_own_data_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("conf/data").mkdir(parents=True)
    Path("conf/data/sample.yaml").write_text("source: null\n")
    Path("conf/data/drawn.yaml").write_text("source: {_target_: flowers.sources.synthetic.sample.render}\n")
    assert (noun_of("sample"), noun_of("drawn")) == ("photograph", "illustration")
