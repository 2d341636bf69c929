from pathlib import Path

import pytest

from flowers.errors import UserError
from flowers.evaluation.domain_shift import CLASS_NAMES, match_classes, plain_name, read_class_names

FLOWERS = ["daisy", "dandelion", "roses", "sunflowers", "tulips"]


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("Roses", "rose"),
        ("lily_of_the_valley", "lily of the valley"),
        ("colt's foot", "colts foot"),
        ("daisies", "daisy"),
        ("Oxeye-Daisy", "oxeye daisy"),
        ("iris", "iris"),
        ("hibiscus", "hibiscus"),
        ("007", "007"),
    ],
)
def test_case_plural_and_punctuation_do_not_count(name: str, plain: str) -> None:
    assert plain_name(name) == plain


def test_names_of_the_published_data_sets_meet() -> None:
    names = read_class_names(CLASS_NAMES)
    oxford102 = ["oxeye daisy", "common dandelion", "rose", "sunflower", "siam tulip", "lenten rose", "barbeton daisy"]
    assert match_classes(FLOWERS, oxford102, names) == {
        "oxeye daisy": "daisy",
        "common dandelion": "dandelion",
        "rose": "roses",
        "sunflower": "sunflowers",
    }
    oxford17 = ["tulip", "sunflower", "daisy", "dandelion", "colts_foot", "tigerlily"]
    assert match_classes(FLOWERS, oxford17, names).keys() == {"tulip", "sunflower", "daisy", "dandelion"}
    assert match_classes(oxford17, ["colt's foot", "tiger lily"], names) == {
        "colt's foot": "colts_foot",
        "tiger lily": "tigerlily",
    }


def test_several_classes_may_mean_one_of_the_model() -> None:
    assert match_classes(["iris", "rose"], ["bearded iris", "yellow iris"], read_class_names(CLASS_NAMES)) == {
        "bearded iris": "iris",
        "yellow iris": "iris",
    }


def test_one_class_that_may_mean_two_of_the_model_is_named() -> None:
    with pytest.raises(UserError, match="class Rose could be rose or roses of the model"):
        match_classes(["rose", "roses"], ["Rose"], {})
    assert match_classes(["rose", "roses"], ["roses"], {}) == {"roses": "roses"}


@pytest.mark.parametrize(
    ("content", "said"),
    [("a: [", "cannot be read"), ("- a", "must give each name a list"), ("a: [c]\nb: [c]", "gives 'c' two meanings")],
)
def test_broken_file_is_named(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "names.yaml").write_text(content)
    with pytest.raises(UserError, match=said):
        read_class_names(tmp_path / "names.yaml")
