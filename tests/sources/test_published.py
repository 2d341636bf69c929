import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.io import savemat

from flowers.commands.download import download
from flowers.config.compose import compose_config, read_data, read_settings
from flowers.config.schema import Settings
from flowers.curation.manifest import COLUMNS, read_manifest
from flowers.curation.prepare import find_photographs
from flowers.errors import UserError
from flowers.sources import published
from flowers.sources.archives import Pin, find_in_dvc_cache, read_pin
from flowers.sources.published import (
    OXFORD17,
    OXFORD102,
    class_folder_archive,
    flower_photos,
    folder_name,
    oxford17,
    oxford102,
)

ROOT = Path(__file__).parents[2]
PINNED = ROOT / "data/flower_photos.tgz.dvc"
SETS = ["flower_photos", "oxford17", "oxford102"]


def tar(members: dict[str, bytes]) -> bytes:
    """Pack files as the publishers do."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def mat(**lists: Any) -> bytes:
    file = io.BytesIO()
    savemat(file, {name: np.asarray(values, dtype=np.uint16)[None] for name, values in lists.items()})
    return file.getvalue()


@pytest.fixture
def publish(web: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, bytes], dict[str, Any]]:
    """A function that serves a file and returns its pin. The working folder becomes `tmp_path`."""
    monkeypatch.chdir(tmp_path)

    def serve(name: str, content: bytes) -> dict[str, Any]:
        return {"url": web.add(name, content), "md5": hashlib.md5(content).hexdigest(), "bytes": len(content)}

    return serve


@pytest.fixture
def photos(photographs: Path, publish: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """The pin of an archive laid out as flower_photos.tgz is."""
    files = {f"flower_photos/{path.relative_to(photographs)}": path.read_bytes() for path in photographs.rglob("*.jpg")}
    return publish("flower_photos.tgz", tar(files | {"flower_photos/LICENSE.txt": b"CC-BY"}))


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_flower_photos_keep_their_folders(photos: dict[str, Any], photographs: Path, tmp_path: Path) -> None:
    flower_photos(tmp_path / "root", archive=photos, downloads_dir="data")
    assert contents(tmp_path / "root") == contents(photographs) | {"LICENSE.txt": b"CC-BY"}
    assert {path.name for path in tmp_path.iterdir()} == {"root", "data"}
    assert (tmp_path / "data/flower_photos.tgz").stat().st_size == photos["bytes"]


def test_stage_and_training_get_the_photographs(
    photos: dict[str, Any], tmp_path: Path, make_settings: Callable[..., Settings], web: Any
) -> None:
    pin = [f"data.source.archive.{key}={value}" for key, value in photos.items()]
    settings = make_settings("data=flower_photos", "data.root=runs/data/flower_photos", *pin)
    download(settings)
    manifest = read_manifest(tmp_path / "out/manifest.csv")
    assert list(manifest.columns) == COLUMNS
    assert (manifest["status"] == "ok").all()
    assert manifest["label"].value_counts().to_dict() == {"daisy": 12, "roses": 12, "sunflowers": 12}
    root, table, _ = find_photographs(read_data(settings))
    assert len(table) == 36
    assert all((root / path).is_file() for path in table["path"])
    assert len(web.asked) == 1  # the archive is kept


def test_oxford17_is_labelled_by_position(publish: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).permuted(np.arange(1, 1361).reshape(17, 80), axis=1)
    lists: dict[str, Any] = {}
    for k in (1, 2, 3):
        turned = np.roll(numbers, k * 20, axis=1)
        lists |= {
            f"trn{k}": turned[:, :40].ravel(),
            f"val{k}": turned[:, 40:60].ravel(),
            f"tst{k}": turned[:, 60:].ravel(),
        }
    files = {f"jpg/image_{number:04d}.jpg": str(number).encode() for number in range(1, 1361)}
    root = tmp_path / "root"
    oxford17(
        root,
        archive=publish(
            "17flowers.tgz", tar(files | {"jpg/files.txt": b"a list", "jpg/._image_0001.jpg": b"a copier's note"})
        ),
        splits=publish("datasplits.mat", mat(**lists)),
        downloads_dir="data",
    )
    assert {path.name for path in root.iterdir()} == {folder_name(name) for name in OXFORD17} | {"official.csv"}
    assert (root / "daffodil/image_0001.jpg").read_text() == "1"
    assert (root / "daffodil/image_0080.jpg").read_text() == "80"
    assert (root / "snowdrop/image_0081.jpg").read_text() == "81"
    assert (root / "colts_foot/image_0900.jpg").read_text() == "900"
    assert (root / "pansy/image_1360.jpg").read_text() == "1360"
    official = pd.read_csv(root / "official.csv")
    assert list(official.columns) == ["path", "official_1", "official_2", "official_3"]
    assert set(official["path"]) == contents(root).keys() - {"official.csv"}
    species = official["path"].str.partition("/")[0]
    number = official["path"].str.extract(r"(\d+)\.jpg")[0].astype(int)
    for k in (1, 2, 3):
        column = official[f"official_{k}"]
        assert pd.crosstab(species, column).to_numpy().tolist() == [[20, 40, 20]] * 17  # test, train, val
        for split, key in {"train": "trn", "val": "val", "test": "tst"}.items():
            assert set(number[column == split]) == set(lists[f"{key}{k}"])


@pytest.fixture
def hundred(publish: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """What oxford102 takes: 306 photographs, of which number n has the label 1 + n % 102."""
    numbers = np.arange(1, 307)
    files = {f"jpg/image_{number:05d}.jpg": str(number).encode() for number in numbers}
    return {
        "archive": publish("102flowers.tgz", tar(files)),
        "labels": publish("imagelabels.mat", mat(labels=1 + numbers % 102)),
        "splits": publish("setid.mat", mat(trnid=numbers[:102], valid=numbers[102:204], tstid=numbers[204:])),
        "downloads_dir": "data",
    }


def test_oxford102_is_labelled_by_its_list(hundred: dict[str, Any], tmp_path: Path) -> None:
    root = tmp_path / "root"
    oxford102(root, **hundred)
    assert {path.name for path in root.iterdir()} == {folder_name(name) for name in OXFORD102} | {"official.csv"}
    assert (root / "hard_leaved_pocket_orchid/image_00001.jpg").read_text() == "1"
    assert (root / "pink_primrose/image_00102.jpg").read_text() == "102"
    assert (root / "blackberry_lily/image_00101.jpg").read_text() == "101"
    official = pd.read_csv(root / "official.csv").set_index("path")["official_1"]
    assert official["hard_leaved_pocket_orchid/image_00001.jpg"] == "train"
    assert official["pink_primrose/image_00204.jpg"] == "val"
    assert official["pink_primrose/image_00306.jpg"] == "test"
    assert official.value_counts().to_dict() == {"train": 102, "val": 102, "test": 102}


def test_names_of_species_are_those_that_others_use() -> None:
    torchvision = pytest.importorskip("torchvision.datasets")
    assert [name.rstrip("?") for name in torchvision.Flowers102.classes] == OXFORD102
    for names in (OXFORD17, OXFORD102):
        folders = {folder_name(name) for name in names}
        assert len(folders) == len(names)
        assert all(folder.isascii() and folder.replace("_", "").isalpha() for folder in folders)


@pytest.mark.parametrize(
    ("key", "name", "content", "said"),
    [
        ("splits", "setid.mat", mat(trnid=[1], valid=[2], tstid=[3]), "setid.mat leaves out photograph 4"),
        ("splits", "setid.mat", mat(trnid=[1], valid=[1], tstid=[3]), "setid.mat names photograph 1 twice"),
        (
            "splits",
            "setid.mat",
            mat(trnid=[0], valid=[1], tstid=[3]),
            "setid.mat names photograph 0 where there are 306",
        ),
        ("splits", "setid.mat", mat(trnid=[1], valid=[2]), "setid.mat has no list 'tstid'"),
        ("splits", "setid.mat", b"text" * 100, "setid.mat cannot be read as a MATLAB file"),
        (
            "splits",
            "setid.mat",
            mat(trnid=[1] * 99, valid=[2], tstid=[3])[:200],
            "setid.mat cannot be read as a MATLAB file",
        ),
        ("labels", "imagelabels.mat", mat(labels=[1, 103]), "imagelabels.mat has labels outside of 1 to 102"),
        ("labels", "imagelabels.mat", mat(labels=[1] * 305), "setid.mat names photograph 306 where there are 305"),
        (
            "archive",
            "102flowers.tgz",
            tar({"jpg/image_00001.jpg": b"1"}),
            "102flowers.tgz does not fit its labels: jpg/image_00002.jpg has a label but is not there",
        ),
        (
            "archive",
            "102flowers.tgz",
            tar({"jpg/x.jpg": b"1"}),
            "102flowers.tgz does not fit its labels: jpg/image_00001.jpg has a label but is not there",
        ),
    ],
)
def test_files_that_do_not_fit_are_named(
    hundred: dict[str, Any],
    publish: Callable[..., dict[str, Any]],
    tmp_path: Path,
    key: str,
    name: str,
    content: bytes,
    said: str,
) -> None:
    with pytest.raises(UserError) as raised:
        oxford102(tmp_path / "root", **hundred | {key: publish(name, content)})
    assert said in str(raised.value)
    assert "data/" in str(raised.value)
    assert {path.name for path in tmp_path.iterdir()} == {"data"}


def test_archive_without_its_folder_is_named(publish: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"flower_photos\.tgz holds no folder flower_photos"):
        flower_photos(
            tmp_path / "root", archive=publish("flower_photos.tgz", tar({"daisy/1.jpg": b"1"})), downloads_dir="data"
        )
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"md6": "x"}, r"no key 'a\.md6': did you mean 'md5'\?"),
        ({"md5": "123"}, r"'a\.md5' is '123', but must be 32 hexadecimal digits"),
        ({"bytes": "many"}, r"'a\.bytes' is 'many'"),
        ({"url": "https://example.org/"}, r"'a\.url' is 'https://example\.org/', but must name a file"),
    ],
)
def test_invalid_pin_is_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        read_pin("a", {"url": "https://example.org/a.tgz", "md5": "0" * 32, "bytes": 1} | change)
    with pytest.raises(UserError, match="'a' lacks 'md5' or 'sha256'"):
        read_pin("a", {"url": "https://example.org/a.tgz", "bytes": 1})


CLASSES = {"daisy/1.jpg": b"1", "roses/2.jpg": b"2"}


@pytest.mark.parametrize(
    ("top", "inner"),
    [("", None), ("./", None), ("garden/", None), ("garden/", "garden"), ("a/b/images/", "a/b/images")],
)
def test_class_folders_are_found_in_an_archive(
    publish: Callable[..., dict[str, Any]], tmp_path: Path, top: str, inner: str | None
) -> None:
    members = {f"{top}{name}": content for name, content in (CLASSES | {"LICENSE.txt": b"CC-BY"}).items()}
    archive = publish("garden.tgz", tar(members | {"__MACOSX/._daisy/1.jpg": b"x", "README": b"read me"}))
    class_folder_archive(tmp_path / "root", archive=archive, inner=inner, downloads_dir="data")
    assert contents(tmp_path / "root").items() >= (CLASSES | {"LICENSE.txt": b"CC-BY"}).items()
    assert {path.name for path in (tmp_path / "root").iterdir() if path.is_dir()} <= {"daisy", "roses", "__MACOSX"}
    assert {path.name for path in tmp_path.iterdir()} == {"root", "data"}


def test_single_class_folder_is_not_taken_for_the_top(publish: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    archive = publish("garden.tgz", tar({"daisy/1.jpg": b"1"}))
    class_folder_archive(tmp_path / "root", archive=archive, inner=None, downloads_dir="data")
    assert contents(tmp_path / "root") == {"daisy/1.jpg": b"1"}


@pytest.mark.parametrize(
    ("members", "inner", "said"),
    [
        ({"1.jpg": b"1"}, None, "garden.tgz holds no class folders; set data.source.inner"),
        (CLASSES, "roses", "garden.tgz holds no class folders in roses; set data.source.inner"),
        (CLASSES, "images", "garden.tgz holds no folder images; correct data.source.archive or data.source.inner"),
        (CLASSES, "..", "garden.tgz holds no folder ..; correct"),
        (CLASSES, "/etc", "garden.tgz holds no folder /etc; correct"),
        ({"../1.jpg": b"1"}, None, "garden.tgz is refused"),
    ],
)
def test_archive_without_class_folders_is_named(
    publish: Callable[..., dict[str, Any]], tmp_path: Path, members: dict[str, bytes], inner: str | None, said: str
) -> None:
    with pytest.raises(UserError) as raised:
        class_folder_archive(
            tmp_path / "root", archive=publish("garden.tgz", tar(members)), inner=inner, downloads_dir="data"
        )
    assert said in str(raised.value)
    assert {path.name for path in tmp_path.iterdir()} == {"data"}


EACH_MOMENT = """
import json, os, shutil, signal, sys
from pathlib import Path
from flowers.commands import download as command
from flowers.commands.download import download
from flowers.config.compose import compose_config, read_settings

place = Path(sys.argv[1]).resolve()
settings = read_settings(compose_config(json.loads(sys.argv[2])))

def call(moment):
    seen = 0
    def die(event, args):
        nonlocal seen
        if event.startswith(("open", "os.", "shutil.")) and str(place) in str(args[0]):
            seen += 1
            if seen == moment:
                os.kill(os.getpid(), signal.SIGKILL)
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if moment:
            sys.addaudithook(die)
        download(settings)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

for moment in range(1, 1000):
    place.mkdir()
    ended = call(moment)
    if ended != 0 and call(0) != 0:
        sys.exit(f"killed at {moment}, it does not go on")
    files = {path.relative_to(place).as_posix(): path.is_file() and path.read_bytes() for path in place.rglob("*")}
    if moment == 1:
        whole = files
    if files != whole:
        sys.exit(f"killed at {moment}, it ends with other files: {files.keys() ^ whole.keys()}")
    shutil.rmtree(place)
    if ended == 0:
        break
print(moment)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="it forks")
@pytest.mark.parametrize("data", ["folder", "archive"])
def test_a_call_goes_on_at_whatever_moment_it_was_killed(
    data: str, photographs: Path, tmp_path: Path, publish: Callable[..., dict[str, Any]]
) -> None:
    place, photos = tmp_path / "place", tmp_path / "photos"
    names = ("daisy/daisy_00.jpg", "roses/roses_00.jpg")
    for name in names:
        (photos / name).parent.mkdir(parents=True)
        shutil.copy(photographs / name, photos / name)
    words = [f"data={data}", "experiment=cnn_scratch", "data.name=mine", f"out_dir={place / 'out'}"]
    if data == "folder":
        words.append(f"data.root={photos}")
    else:
        pin = publish("mine.tgz", tar({name: (photos / name).read_bytes() for name in names}))
        words += [f"data.source.archive.{key}={value}" for key, value in pin.items()]
        words += [f"data.source.downloads_dir={place / 'downloads'}", "data.root=unused"]
    command = [sys.executable, "-c", EACH_MOMENT, str(place), json.dumps(words)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_archive_needs_no_python(
    publish: Callable[..., dict[str, Any]],
    photographs: Path,
    tmp_path: Path,
    make_settings: Callable[..., Settings],
    kind: str,
) -> None:
    content = tar({f"garden/{path.relative_to(photographs)}": path.read_bytes() for path in photographs.rglob("*.jpg")})
    pin = {"url": publish("garden.tgz", content)["url"], kind: hashlib.new(kind, content).hexdigest()}
    given = [f"data.source.archive.{key}={value}" for key, value in pin.items()]
    name = ["data.name=garden", "data.root=${.name}"]
    download(make_settings("data=archive", *name, *given))
    manifest = read_manifest(tmp_path / "out/manifest.csv")
    assert manifest["label"].value_counts().to_dict() == {"daisy": 12, "roses": 12, "sunflowers": 12}
    assert contents(tmp_path / "out/garden") == contents(photographs)

    with pytest.raises(UserError, match=r"'data\.source\.archive' lacks 'url'; add it"):
        download(make_settings("data=archive", *name, *given[1:], f"out_dir={tmp_path / 'other'}"))
    with pytest.raises(UserError, match=r"'data\.source\.archive' lacks 'md5' or 'sha256'"):
        download(make_settings("data=archive", *name, *given[:1], f"out_dir={tmp_path / 'other'}"))
    wrong = f"data.source.archive.{kind}={'0' * len(pin[kind])}"
    with pytest.raises(UserError, match=rf"has the digest {pin[kind]}, where 0+ is pinned"):
        download(make_settings("data=archive", *name, given[0], wrong, f"out_dir={tmp_path / 'other'}"))


def test_one_digest_is_enough() -> None:
    values = {"url": "https://example.org/a.tgz", "bytes": None, "sha256": "A" * 64, "md5": None}
    assert read_pin("a", values) == Pin("https://example.org/a.tgz", "a" * 64, None)
    with pytest.raises(UserError, match="'a' has both 'md5' and 'sha256'"):
        read_pin("a", values | {"md5": "0" * 32})
    with pytest.raises(UserError, match=r"'a\.sha256' is '123', but must be 64 hexadecimal digits"):
        read_pin("a", values | {"sha256": "123"})


def test_archive_in_the_downloads_folder_is_used(photos: dict[str, Any], tmp_path: Path, web: Any) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/flower_photos.tgz").write_bytes(web.files["/flower_photos.tgz"])
    flower_photos(tmp_path / "root", archive=photos, downloads_dir="data")
    assert web.asked == []


@pytest.mark.parametrize(
    "config", ["", "[cache]\n    dir = ../elsewhere\n", "['remote \"x\"']\n    url = y\n[cache]\ndir = /abs\n"]
)
def test_archive_in_the_cache_of_dvc_is_used(photos: dict[str, Any], tmp_path: Path, web: Any, config: str) -> None:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text(config.replace("/abs", str(tmp_path / "abs")))
    cache = tmp_path / {"": ".dvc/cache", "[": "elsewhere"}.get(config[:1], "")
    if "abs" in config:
        cache = tmp_path / "abs"
    cached = cache / "files/md5" / photos["md5"][:2] / photos["md5"][2:]
    cached.parent.mkdir(parents=True)
    cached.write_bytes(web.files["/flower_photos.tgz"])
    flower_photos(tmp_path / "root", archive=photos, downloads_dir="data")
    assert web.asked == []
    assert not (tmp_path / "data").exists()
    shutil.rmtree(tmp_path / "root")
    cached.write_bytes(b"damaged")
    flower_photos(tmp_path / "root", archive=photos, downloads_dir="data")
    assert len(web.asked) == 1


def test_configuration_and_dvc_pin_the_same() -> None:
    stated = yaml.safe_load((ROOT / "conf/data/flower_photos.yaml").read_text())["source"]
    pinned = yaml.safe_load(PINNED.read_text())
    pin = read_pin("archive", stated["archive"])
    (out,), (origin,) = pinned["outs"], pinned["deps"]
    assert (pin.url, pin.digest, pin.bytes) == (origin["path"], out["md5"], out["size"])
    assert origin["size"] == pin.bytes
    assert PINNED.relative_to(ROOT) == Path(stated["downloads_dir"], out["path"] + ".dvc")
    ignored = subprocess.run(["git", "check-ignore", "-q", PINNED.with_suffix("")], cwd=ROOT, check=False).returncode
    assert pin.name == out["path"]
    assert ignored == 0


@pytest.mark.parametrize("name", SETS)
def test_recipe_with_a_published_set_composes(name: str) -> None:
    settings = read_settings(compose_config(["experiment=cnn_scratch", "out_dir=x", f"data={name}"]))
    source = settings.data.source
    assert source is not None
    assert source["_target_"] == f"flowers.sources.published.{name}"
    assert callable(getattr(published, name))
    for key, value in source.items():
        if isinstance(value, dict):
            assert read_pin(key, value).url.startswith("https://")
    with pytest.raises(UserError, match=r"data\.source\.downloads'"):
        read_settings(
            compose_config(["experiment=cnn_scratch", "out_dir=x", f"data={name}", "+data.source.downloads=x"])
        )


@pytest.fixture
def dvc(photos: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """A new project with a remote, which becomes the working folder; a function that runs a command of DVC there."""
    monkeypatch.chdir(tmp_path)
    quiet = os.environ | {"DVC_NO_ANALYTICS": "1", "GIT_CEILING_DIRECTORIES": str(tmp_path)}

    def run(*words: str) -> str:
        done = subprocess.run(words, env=quiet, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def call(*words: str) -> str:
        return run(sys.executable, "-m", "dvc", *words)

    run("git", "init", "-q", "project")
    os.chdir("project")
    call("init", "-q")
    shutil.copytree(PINNED.parent / ".dvc", "data/.dvc", ignore=shutil.ignore_patterns("tmp", "cache"))
    pinned = yaml.safe_load(PINNED.read_text())
    pinned["deps"][0] |= {"path": photos["url"], "size": photos["bytes"]}
    pinned["outs"][0] |= {"md5": photos["md5"], "size": photos["bytes"]}
    Path("data", PINNED.name).write_text(yaml.safe_dump(pinned, sort_keys=False))
    call("remote", "add", "-q", "-d", "near", str(tmp_path / "remote"))
    call("--cd", "data", "remote", "add", "-q", "-d", "near", str(tmp_path / "remote"))
    return call


@pytest.mark.slow
def test_pulled_archive_is_found(photos: dict[str, Any], tmp_path: Path, web: Any, dvc: Callable[..., str]) -> None:
    archive = Path("data/flower_photos.tgz")
    archive.write_bytes(web.files["/flower_photos.tgz"])
    dvc("--cd", "data", "commit", "-q", "-f")
    dvc("--cd", "data", "push", "-q")
    archive.unlink()
    shutil.rmtree(".dvc/cache")
    web.asked.clear()

    dvc("--cd", "data", "pull", "-q")
    flower_photos(tmp_path / "one", archive=photos, downloads_dir="data")
    archive.unlink()  # which leaves it in the cache
    assert find_in_dvc_cache(photos["md5"]) is not None
    flower_photos(tmp_path / "two", archive=photos, downloads_dir="data")
    assert contents(tmp_path / "one") == contents(tmp_path / "two") != {}
    assert web.asked == []


@pytest.mark.slow
def test_archive_is_left_out_until_somebody_asks_for_it(web: Any, dvc: Callable[..., str]) -> None:
    for command in ("pull", "checkout", "status", "push"):
        dvc(command)
    assert web.asked == []
    dvc("--cd", "data", "update", PINNED.name)
    assert Path("data/flower_photos.tgz").read_bytes() == web.files["/flower_photos.tgz"]
    assert "changed outs" not in dvc("--cd", "data", "status")
