import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flowers.report.data_card import cue_accuracies, describe, findings, montage, write_card

SIDE_PX = 8


def photographs(classes: list[str], per_class: int = 20) -> pd.DataFrame:
    """Photographs of these classes; in each class the first is for the test."""
    rows = [
        {
            "path": f"{label}/{number}.jpg",
            "label": label,
            "group": f"{label}{number}",
            "split": "test" if number == 0 else "train",
            "fold": -1 if number == 0 else number % 5,
            "sha256": f"{number:02d}{label}",
            "width_px": 100 + number,
            "height_px": 80,
            "bytes": 1000 + number,
            "brightness": number / per_class,
        }
        for label in classes
        for number in range(per_class)
    ]
    return pd.DataFrame(rows)


def page_of(tmp_path: Path, table: pd.DataFrame, refused: list[tuple[str, str]] = [], **more: Any) -> str:  # noqa: B006
    card = {"name": "garden", **describe(table, pd.DataFrame(refused, columns=["path", "reason"]))}
    pixels = np.zeros((len(table), SIDE_PX, SIDE_PX, 3), np.uint8)
    said = {"origin": {"folder": "somewhere"}, "licence": "", **more}
    write_card(card, table, pixels, out=tmp_path / "index.html", **said)
    return (tmp_path / "index.html").read_text(encoding="utf-8")


def test_the_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    page = page_of(tmp_path, photographs(["daisy", "roses"]))
    assert "<script" not in page
    addresses = re.findall(r'(?:src|href)\s*=\s*"([^"]*)"', page)
    assert len(addresses) == 2  # a montage for each class
    for address in addresses:
        assert address.startswith("data:image/webp;base64,")
    assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", page)


def test_groups_refusals_and_licence_are_shown(tmp_path: Path) -> None:
    table = photographs(["daisy", "roses"])
    table.loc[[1, 21], "group"] = "alike"
    licence = "\n".join(f"line {number}" for number in range(20))
    page = page_of(tmp_path, table, [("daisy/x.jpg", "zero bytes")], licence=licence)
    assert "labels differ" in page
    assert "daisy/1.jpg" in page
    assert "roses/1.jpg" in page
    assert "zero bytes" in page
    assert "line 7" in page
    assert "line 8" not in page
    assert "12 more lines" in page
    assert "somewhere" in page


def test_photographs_of_the_test_are_named_and_not_shown(tmp_path: Path) -> None:
    table = photographs(["daisy", "roses"])
    table.loc[[0, 20], "group"] = "alike"  # the first of each class is for the test
    table.loc[[1, 2], "group"] = "alike too"
    page = page_of(tmp_path, table)
    assert "daisy/0.jpg" in page
    assert 'alt="daisy/0.jpg"' not in page
    assert 'alt="daisy/1.jpg"' in page


def test_hostile_names_are_shown_not_obeyed(tmp_path: Path) -> None:
    table = photographs(["<b>bold</b>", '"><script>'])
    table.loc[[1, 2], "group"] = "alike"
    page = page_of(tmp_path, table, [("<i>x</i>", "<u>why</u>")], licence="<s>free</s>")
    for tag in ("<b>bold", "<script", "<i>x", "<u>", "<s>"):
        assert tag not in page


def test_one_hundred_and_two_classes_fit(tmp_path: Path) -> None:
    page = page_of(tmp_path, photographs([f"species {number}" for number in range(102)]))
    assert page.count('class="montage"') == 102


def test_montage_shows_each_training_photograph_once_and_no_other() -> None:
    table = photographs(["daisy", "roses"], per_class=6)
    table.loc[[1, 2], "group"] = "alike"
    table = table.sample(frac=1, random_state=0)  # rows are found by place, not by index
    pixels = np.zeros((len(table), SIDE_PX, SIDE_PX, 3), np.uint8)
    pixels += (np.arange(len(table), dtype=np.uint8) + 1)[:, None, None, None]
    shown = montage(table, pixels, "daisy", rows=2)
    seen = sorted(set(shown[shown[..., 3] == 255][:, 0].tolist()))
    wanted = (table["label"] == "daisy") & table["path"].isin([f"daisy/{number}.jpg" for number in (1, 3, 4, 5)])
    assert seen == sorted((np.flatnonzero(wanted.to_numpy()) + 1).tolist())


def test_readings_name_what_is_wrong() -> None:
    table = pd.concat([photographs(["daisy"], 60), photographs(["roses"], 20)], ignore_index=True)
    table["bytes"] += table["label"].map({"daisy": 0, "roses": 5000})
    table.loc[[1, 61], ["group", "sha256"]] = ("alike", "same")
    said = " ".join(findings(describe(table, pd.DataFrame({"path": ["x"], "reason": ["zero bytes"]}))))
    assert "daisy has the most photographs (60), roses the fewest (20): 3.0 times as many" in said
    assert "1 group of photographs (1 of them copies of the same bytes) is kept together" in said
    assert "1 group holds photographs that are alike but have different labels" in said
    assert "1 file cannot be used" in said
    assert "The size of the file alone tells the class of" in said
    assert "instead of flowers" in said


def test_readings_of_a_faultless_data_set() -> None:
    said = findings(describe(photographs(["daisy", "roses"]), pd.DataFrame({"path": [], "reason": []})))
    assert said == [
        "All 2 classes have 20 photographs each.",
        "No two photographs were found to be alike.",
        "Neither size nor brightness alone is shown to tell the class better than chance.",
    ]


def test_three_photographs_show_no_leak() -> None:
    few = photographs(["daisy", "roses"], per_class=3)  # two of each are not for the test
    few["bytes"] += few["label"].map({"daisy": 0, "roses": 5000})
    (cue,) = [cue for cue in cue_accuracies(few) if cue["cue"] == "bytes"]
    assert cue["acc"] == 1
    assert cue["acc_low"] < 0.6
    assert not cue["leaks"]
