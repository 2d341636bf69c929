"""What lies in a folder is understood as it is meant, or a sentence asks; nothing is decoded here."""

import unicodedata
from collections import Counter
from pathlib import Path

import pytest

from flowers.errors import UserError
from flowers.sources.layouts import Listing, list_folders


def make(root: Path, *files: str) -> Path:
    """Make empty files, and folders where a name ends with a slash."""
    for file in files:
        path = root / file
        if file.endswith("/"):
            path.mkdir(parents=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return root


def counts(listing: Listing) -> dict[tuple[str, str], int]:
    return dict(Counter((file.split, file.label) for file in listing.files))


def refusal(root: Path, layout: str = "auto") -> str:
    with pytest.raises(UserError) as caught:
        list_folders(root, layout)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train", "val", "test"),
        ("Train", "VALID", "Test"),
        ("Training", "Validation", "Testing"),
        ("training_set", "dev", "test-set"),
        ("images/train", "images/val", "images/test"),
        ("dataset/train", "dataset/valid", "dataset/test"),
        ("data/images/train", "data/images/valid", "data/images/evaluation"),
        ("seg_train/seg_train", "seg_val/seg_val", "seg_test/seg_test"),
        ("train_images", "val_images", "test_images"),
        ("trainval", "val", "test"),
        ("train_flowers", "val_flowers", "test_flowers"),
    ],
)
def test_a_divided_folder_is_recognised(train: str, val: str, test: str, tmp_path: Path) -> None:
    places = {"train": train, "val": val, "test": test}
    make(tmp_path, *(f"{place}/{label}/1.jpg" for place in places.values() for label in ("daisy", "rose")))
    make(tmp_path, f"{train}/rose/deep/er/2.JPG", "labels/train/1.txt", "LICENSE.txt", ".git/train/x.jpg")
    listing = list_folders(tmp_path)
    expected = {(split, label): 1 for split in places for label in ("daisy", "rose")}
    assert counts(listing) == expected | {("train", "rose"): 2}
    assert {file.path for file in listing.files if file.split == "val"} == {f"{val}/daisy/1.jpg", f"{val}/rose/1.jpg"}
    [note] = listing.notes
    assert f"is divided already, and used so: train ({train}), val ({val}), test ({test})" in note
    assert not any(file.split for file in list_folders(tmp_path, "classes").files)


@pytest.mark.parametrize("parts", [("train", "val"), ("train", "test"), ("train",), ("inner/train",)])
def test_parts_may_be_missing(parts: tuple[str, ...], tmp_path: Path) -> None:
    make(tmp_path, *(f"{part}/{label}/1.jpg" for part in parts for label in ("daisy", "rose")))
    listing = list_folders(tmp_path)
    assert {split for split, _ in counts(listing)} == {part.rpartition("/")[2] for part in parts}


def test_photographs_without_an_extension_are_photographs(tmp_path: Path) -> None:
    make(tmp_path, "train/daisy/1", "train/rose/1", "test/daisy/1", "test/rose/1", "LICENSE", "labels/1.txt")
    assert {split for split, _ in counts(list_folders(tmp_path))} == {"train", "test"}
    assert len(list_folders(tmp_path).notes) == 1


@pytest.mark.parametrize("test", ["test/1.jpg", "test/all/1.jpg", "test/test/1.jpg"])
def test_an_unlabelled_test_is_left_out_by_name(test: str, tmp_path: Path) -> None:
    make(tmp_path, "train/daisy/1.jpg", "train/rose/1.jpg", test)
    listing = list_folders(tmp_path)
    assert counts(listing) == {("train", "daisy"): 1, ("train", "rose"): 1}
    assert f"flowers predict model=OUT photos={tmp_path / 'test'}" in listing.notes[1]
    assert "unlabelled" in listing.notes[1]


@pytest.mark.parametrize(
    "classes",
    [
        ("train", "bus"),
        ("train", "tram", "plane"),
        ("test", "control"),
        ("bullet train", "crash test"),
        ("training", "dressage"),
        ("trainer", "tester"),
        ("train1", "train2"),
        ("validity", "tested"),
    ],
)
def test_classes_that_only_sound_like_parts_stay_classes(classes: tuple[str, ...], tmp_path: Path) -> None:
    make(tmp_path, *(f"{name}/{index}.jpg" for name in classes for index in range(2)))
    assert counts(list_folders(tmp_path)) == {("", name): 2 for name in classes}
    assert list_folders(tmp_path).notes == []


def test_what_may_be_meant_in_two_ways_is_asked(tmp_path: Path) -> None:
    flat = make(tmp_path / "flat", "train/cat.0.jpg", "train/dog.0.jpg", "test1/1.jpg")
    said = refusal(flat)
    assert "holds test1 and train, as a data set that is divided does, but no class folders" in said
    assert f"data=table data.table=FILE data.root={flat}" in said
    assert counts(list_folders(flat, "classes")) == {("", "train"): 2, ("", "test1"): 1}
    assert "has no folder train with class folders" in refusal(flat, "divided")

    mixed = make(tmp_path / "mixed", "train/steam/1.jpg", "train/electric/1.jpg", "bus/1.jpg")
    assert "holds train beside bus" in refusal(mixed)
    assert "data.layout=divided or data.layout=classes" in refusal(mixed)
    assert counts(list_folders(mixed, "classes")) == {("", "train"): 2, ("", "bus"): 1}
    divided = list_folders(mixed, "divided")
    assert counts(divided) == {("train", "steam"): 1, ("train", "electric"): 1}
    assert divided.notes[-1].endswith(f"left out: {mixed / 'bus'}")

    plain = make(tmp_path / "plain", "train/daisy/1.jpg", "test/daisy/1.jpg", "predict/1.jpg", "extra.jpg")
    assert set(counts(list_folders(plain))) == {("train", "daisy"), ("test", "daisy")}
    assert list_folders(plain).notes[-1].endswith(f"left out: {plain / 'predict'}")


def test_what_is_empty_or_beside_the_class_folders_is_named(tmp_path: Path) -> None:
    make(tmp_path, "daisy/1.jpg", "rose/1.jpg", "tulip/", "lily/.DS_Store", "flowers.zip", "notes.txt")
    make(tmp_path, *(f"{index}.jpg" for index in range(5)), "__pycache__/a.pyc", ".ipynb_checkpoints/daisy.jpg")
    listing = list_folders(tmp_path)
    assert counts(listing) == {("", "daisy"): 1, ("", "rose"): 1}
    assert listing.notes == [
        f"empty class folders in {tmp_path}: lily, tulip",
        f"beside the class folders and left out in {tmp_path}: 0.jpg, 1.jpg, 2.jpg … (6 in all)",
    ]


def test_a_folder_without_class_folders_names_what_is_taken(tmp_path: Path) -> None:
    photographs = make(tmp_path / "a", "1.jpg", "2.jpg", "labels.csv")
    said = refusal(photographs)
    assert "no photographs in class folders, but 1.jpg, 2.jpg side by side" in said
    assert "train, val and test" in said
    assert f"data=table data.table={photographs / 'labels.csv'} data.root={photographs}" in said
    assert "flowers.zip: unpack that" in refusal(make(tmp_path / "b", "flowers.zip"))
    assert "is an archive: unpack it" in refusal(tmp_path / "b/flowers.zip")
    assert "put each class into a folder of its own" in refusal(make(tmp_path / "c", "readme.txt"))
    inside = list_folders(make(tmp_path / "d", "daisy/1.jpg", "rose/more.zip", "rose/2.jpg"))
    assert {file.path: file.reason for file in inside.files if file.reason} == {
        "rose/more.zip": "an archive: unpack it"
    }


def test_folders_that_all_class_folders_have_are_told(tmp_path: Path) -> None:
    make(tmp_path, *(f"{year}/{label}/1.jpg" for year in ("2023", "2024") for label in ("daisy", "rose")))
    [note] = list_folders(tmp_path).notes
    assert "has the folders daisy, rose in it, whose photographs count to it" in note
    make(tmp_path, "2024/1.jpg")
    assert list_folders(tmp_path).notes == []


def test_names_that_a_person_takes_for_the_same(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "blüten") for form in ("NFC", "NFD"))
    root = make(tmp_path / "forms", f"{composed}/1.jpg", f"{decomposed}/2.jpg", "rose/1.jpg")
    assert counts(list_folders(root)) == {("", composed): 2, ("", "rose"): 1}
    assert list_folders(root).notes == [
        f"folders of one name in two Unicode forms, taken for one class, in {root}: {composed}"
    ]
    divided = make(tmp_path / "divided", *(f"train/{name}/1.jpg" for name in (composed, "rose")))
    make(divided, f"test/{decomposed}/1.jpg", "test/rose/1.jpg")
    assert counts(list_folders(divided))[("test", composed)] == 1
    for number, other in enumerate(("Rose", "ROSE", "rose ")):
        said = refusal(make(tmp_path / str(number), "rose/1.jpg", f"{other}/1.jpg"))
        assert "differ only in capital letters or blanks" in said
    assert "'Rose' and 'rose'" in refusal(
        make(tmp_path / "cased", *("train/rose/1.jpg", "test/Rose/1.jpg", "train/a/1.jpg", "test/a/1.jpg"))
    )


def test_links_to_folders_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    store = make(tmp_path / "store", "daisy/1.jpg", "daisy/more/2.jpg", "rose/1.jpg")
    (store / "daisy/back").symlink_to(store)
    root = make(tmp_path / "root", "train/rose/1.jpg")
    (root / "train/daisy").symlink_to(store / "daisy")
    (root / "train/rose/far").symlink_to(store / "rose")
    (root / "train/rose/up").symlink_to(root)
    (root / "test").symlink_to(store)
    found = {file.path: file.reason for file in list_folders(root).files}
    assert {path: reason for path, reason in found.items() if reason} == {
        "train/daisy/back": "a link to a folder",
        "train/rose/up": "a link to a folder",
        "test/daisy/back": "a link to a folder",
    }
    assert {"train/daisy/more/2.jpg", "train/rose/far/1.jpg", "test/daisy/more/2.jpg"} < found.keys()


def test_parts_without_a_training_are_asked_about(tmp_path: Path) -> None:
    make(tmp_path, *(f"{part}/{label}/1.jpg" for part in ("valid", "test") for label in ("daisy", "rose")))
    assert "but no train" in refusal(tmp_path)
    assert set(counts(list_folders(tmp_path, "classes"))) == {("", "test"), ("", "valid")}


def test_words_of_parts_in_names_of_classes(tmp_path: Path) -> None:
    make(tmp_path, "train_station/2020/1.jpg", "test_tube/1.jpg", "bus/1.jpg")
    assert set(counts(list_folders(tmp_path))) == {("", "train_station"), ("", "test_tube"), ("", "bus")}


def test_a_labelled_test_in_other_letters_is_not_left_out(tmp_path: Path) -> None:
    make(tmp_path, "train/daisy/1.jpg", "train/rose/1.jpg", "test/DAISY/1.jpg", "test/ROSE/1.jpg")
    assert "differ only in capital letters" in refusal(tmp_path)


def test_results_are_no_class_and_no_photographs(tmp_path: Path) -> None:
    make(tmp_path, "daisy/1.jpg", "rose/1.jpg", "OUT/run.json", "OUT/test/metrics.json", "OUT/test/figures/a.png")
    make(tmp_path, "rose/again/metrics.json", "rose/again/figures/b.png")
    listing = list_folders(tmp_path)
    assert [file.path for file in listing.files if not file.reason] == ["daisy/1.jpg", "rose/1.jpg"]
    assert any("results of flowers" in note and "OUT" in note for note in listing.notes)
