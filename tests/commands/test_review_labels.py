"""The command that serves the page: what it reads, and how it ends."""

import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from flowers.commands.evaluate import evaluate
from flowers.commands.review_labels import open_review, picture, read_suspects
from flowers.commands.split import split
from flowers.commands.train import train
from flowers.config.schema import Settings
from flowers.curation.labels import LabelEditFile
from flowers.errors import UserError

COLUMNS = "rank,path,label,suggested,probability_given,probability_suggested,loss,why"


@pytest.fixture
def found(photographs: Path, tmp_path: Path) -> Path:
    """A folder as `find_label_errors` leaves it."""
    folder = tmp_path / "found"
    folder.mkdir()
    rows = ["1,daisy/daisy_00.jpg,daisy,roses,0.1,0.8,2.3,large loss", "2,roses/roses_01.jpg,roses,daisy,0.2,0.7,1.6,x"]
    (folder / "suspects.csv").write_text("\n".join([COLUMNS, *rows]) + "\n")
    about = {"photographs": str(photographs), "classes": ["daisy", "roses", "sunflowers"], "decisions": None}
    (folder / "suspects.json").write_text(json.dumps(about))
    return folder


def test_decisions_go_where_they_are_wanted(found: Path, tmp_path: Path) -> None:
    review = open_review(found, None, "Ada")
    assert review.edits.file == found / "decisions.csv"
    assert open_review(found, tmp_path / "mine.csv", "Ada").edits.file == tmp_path / "mine.csv"
    about = json.loads((found / "suspects.json").read_text())
    (found / "suspects.json").write_text(json.dumps(about | {"decisions": str(tmp_path / "theirs.csv")}))
    assert open_review(found, None, "Ada").edits.file == tmp_path / "theirs.csv"
    assert [suspect.path for suspect in review.suspects] == ["daisy/daisy_00.jpg", "roses/roses_01.jpg"]
    assert review.suspects[0].probability_suggested == 0.8
    assert not (found / "decisions.csv").exists()  # until something is decided


def test_a_class_of_digits_stays_text(found: Path) -> None:
    (found / "suspects.csv").write_text(f"{COLUMNS}\n1,007/NA.jpg,007,NA,0.1,0.8,2.3,x\n")
    suspect = read_suspects(found)[0][0]
    assert (suspect.label, suspect.suggested) == ("007", "NA")


@pytest.mark.parametrize("path", ["/etc/passwd", "../secret.jpg", "daisy/../../secret.jpg"])
def test_a_path_out_of_the_folder_is_refused(path: str, found: Path) -> None:
    (found / "suspects.csv").write_text(f"{COLUMNS}\n1,{path},daisy,roses,0.1,0.8,2.3,x\n")
    with pytest.raises(UserError, match="outside the photographs"):
        open_review(found, None, "Ada")


def test_what_is_missing_is_named(found: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="holds no readable suspects"):
        open_review(tmp_path, None, "Ada")
    with pytest.raises(UserError, match="by is empty"):
        open_review(found, None, " ")
    (tmp_path / "bad.csv").write_text("something else\n")
    with pytest.raises(UserError, match=r"bad\.csv, line 1"):
        open_review(found, tmp_path / "bad.csv", "Ada")
    (found / "suspects.csv").write_text("rank,path\n1,a.jpg\n")
    with pytest.raises(UserError, match="holds no readable suspects"):
        open_review(found, None, "Ada")

    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found")

    (found / "suspects.csv").write_text(f"{COLUMNS}\n")
    monkeypatch.setattr("getpass.getuser", nobody)
    with pytest.raises(UserError, match="by=NAME"):
        open_review(found, None, None)
    gone = json.loads((found / "suspects.json").read_text()) | {"photographs": str(tmp_path / "gone")}
    (found / "suspects.json").write_text(json.dumps(gone))
    with pytest.raises(UserError, match="the folder of the photographs, does not exist"):
        open_review(found, None, "Ada")


def test_pictures_are_upright_jpegs_of_bounded_size(tmp_path: Path) -> None:
    image = Image.new("RGBA", (300, 100), "red")
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    image.save(tmp_path / "a.png", exif=exif)
    body = picture(tmp_path / "a.png", 120)
    assert body is not None
    with Image.open(io.BytesIO(body)) as shown:
        assert (shown.format, shown.size) == ("JPEG", (40, 120))
    (tmp_path / "a.svg").write_text("<svg/>")
    assert picture(tmp_path / "a.svg", 120) is None
    assert picture(tmp_path / "none.jpg", 120) is None


def listen() -> None:
    """Have a program hear Ctrl-C, which the children of a background job ignore, and these tests may be one."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.slow
def test_from_the_page_to_the_split(
    found: Path, photographs: Path, tmp_path: Path, make_settings: Callable[..., Settings]
) -> None:
    words = [
        sys.executable,
        "-m",
        "flowers",
        "review_labels",
        f"suspects={found}",
        "decisions=decisions.csv",
        "by=Ada",
    ]
    path = os.pathsep.join(sys.path)
    with subprocess.Popen(
        words,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=listen,
    ) as process:
        assert process.stdout is not None
        port = int(re.findall(r"http://127\.0\.0\.1:(\d+)/", process.stdout.readline())[0])
        connection = HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", "/")
        page = connection.getresponse().read().decode()
        token = re.findall(r'"token": "([\w-]+)"', page)[0]
        connection.request("GET", f"/photo/{token}/0")
        with Image.open(io.BytesIO(connection.getresponse().read())) as shown:
            assert shown.size == (40, 40)
        body = json.dumps({"number": 0, "decision": "relabel:sunflowers"})
        connection.request("POST", "/decide", body, {"X-Token": token})
        assert connection.getresponse().read()
        connection.close()
        process.send_signal(signal.SIGINT)
        said = process.stdout.read()
    assert process.returncode == 0
    assert "1 of 2 suspects decided. Train with data.decisions=decisions.csv" in said

    manifest = pd.DataFrame(
        {"path": sorted(file.relative_to(photographs).as_posix() for file in photographs.rglob("*.jpg"))}
    )
    manifest["label"] = manifest["path"].str.partition("/")[0]
    manifest["sha256"] = [f"{row:016x}" + "0" * 48 for row in range(len(manifest))]
    manifest["dhash"] = [hashlib.sha512(path.encode()).hexdigest() for path in manifest["path"]]
    manifest = manifest.assign(width_px=40, height_px=40, status="ok", reason="")
    (tmp_path / "artifacts/download").mkdir(parents=True)
    manifest.to_csv(tmp_path / "artifacts/download/manifest.csv", index=False)
    split(make_settings("data.decisions=decisions.csv"))
    table = pd.read_csv(tmp_path / "out/split.csv").set_index("path")
    assert table["label"]["daisy/daisy_00.jpg"] == "sunflowers"


@pytest.mark.slow
def test_what_comes_after_goes_by_the_label_and_not_by_the_folder(
    photographs: Path, tmp_path: Path, make_settings: Callable[..., Settings]
) -> None:
    table = LabelEditFile(tmp_path / "decisions.csv")
    for file in sorted((photographs / "sunflowers").iterdir()):
        table.append(f"sunflowers/{file.name}", "relabel:roses", "Ada")
    table.append("daisy/daisy_00.jpg", "drop", "Ada")
    train(make_settings("data.decisions=decisions.csv", "model.stages.0.epochs=1", "progress=none"))
    assert json.loads((tmp_path / "out/run.json").read_text())["classes"] == ["daisy", "roses"]
    assert "daisy/daisy_00.jpg" not in (tmp_path / "out/split.csv").read_text()
    evaluate(tmp_path / "out", tmp_path / "test", explanations=False)
    predictions = pd.read_csv(tmp_path / "test/predictions.csv")
    folders = predictions["path"].str.partition("/")[0]
    assert "sunflowers" in set(folders)
    assert (predictions["label"] == folders.replace("sunflowers", "roses")).all()
