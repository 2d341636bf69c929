import contextlib
import gzip
import io
import os
import random
import stat
import subprocess
import sys
import tarfile
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flowers.errors import UserError
from flowers.sources import archives
from flowers.sources.archives import unpack, whole_folder

Pack = Callable[..., Path]


def member(
    name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mode = kind, link, len(content), 0o4777
    return info, content


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    """A function that writes an archive of a harmless photograph and the given members."""

    def make(*members: tuple[tarfile.TarInfo, bytes], mode: str = "w:gz") -> Path:
        path = tmp_path / "photographs.tgz"
        with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
            for info, content in (member("./top/daisy/1.jpg", b"one"), *members):
                tar.addfile(info, io.BytesIO(content))
        return path

    return make


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_files_and_folders_are_unpacked(pack: Pack, tmp_path: Path, mode: str) -> None:
    archive = pack(
        member("./", kind=tarfile.DIRTYPE),
        member("top/empty", kind=tarfile.DIRTYPE),
        member("top/roses/ä 2.jpg", b"two"),
        member("top/" + "long" * 60 + ".jpg", b"long"),
        mode=mode,
    )
    target = tmp_path / "deep" / "target"
    unpack(archive, target)
    files = {path.relative_to(target).as_posix(): path.read_bytes() for path in target.rglob("*") if path.is_file()}
    assert files == {
        "top/daisy/1.jpg": b"one",
        "top/roses/ä 2.jpg": b"two",
        "top/" + "long" * 60 + ".jpg": b"long",
    }
    assert (target / "top/empty").is_dir()
    assert not stat.S_IMODE((target / "top/daisy/1.jpg").stat().st_mode) & (stat.S_ISUID | stat.S_IXUSR)
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (member("/tmp/outside.jpg", b"x"), "would be written outside"),
        (member("../outside.jpg", b"x"), "would be written outside"),
        (member("top/../../outside.jpg", b"x"), "would be written outside"),
        (member("top/link.jpg", kind=tarfile.SYMTYPE, link="/etc/passwd"), "is a link"),
        (member("top/link", kind=tarfile.SYMTYPE, link="daisy"), "is a link"),
        (member("top/hard.jpg", kind=tarfile.LNKTYPE, link="top/daisy/1.jpg"), "is a link"),
        (member("top/pipe", kind=tarfile.FIFOTYPE), "is neither a plain file nor a folder"),
        (member("top/null", kind=tarfile.CHRTYPE), "is neither a plain file nor a folder"),
        (member("top/disk", kind=tarfile.BLKTYPE), "is neither a plain file nor a folder"),
        (member("top/daisy/1.jpg", kind=tarfile.DIRTYPE), "would be a file and a folder in one"),
        (member("top/daisy/1.jpg/2.jpg", b"below a file"), "would be a file and a folder in one"),
        (member("top/daisy", b"over a folder"), "would be a file and a folder in one"),
    ],
    ids=lambda value: value[0].name if isinstance(value, tuple) else "",
)
def test_bad_member_is_refused_before_anything_is_written(
    pack: Pack, tmp_path: Path, bad: tuple[tarfile.TarInfo, bytes], said: str
) -> None:
    with pytest.raises(UserError) as raised:
        unpack(pack(bad), tmp_path / "target")
    assert f"its member '{bad[0].name}' {said}" in str(raised.value)
    assert {path.name for path in tmp_path.iterdir()} == {"photographs.tgz"}
    assert not Path("/tmp/outside.jpg").exists()


def test_bomb_is_refused(pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "SMALL_BYTES", 1 << 16)
    archive = pack(member("top/zeros.jpg", bytes(1 << 20)))
    assert archive.stat().st_size * archives.MOST_INFLATION < 1 << 20
    with pytest.raises(UserError, match=r"zeros\.jpg' makes it larger than the 65,536 bytes"):
        unpack(archive, tmp_path / "target")


def test_too_many_members_are_refused(pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MOST_MEMBERS", 2)
    archive = pack(member("top/2.jpg"), member("top/3.jpg"))
    with pytest.raises(UserError, match=r"3\.jpg' makes it larger than"):
        unpack(archive, tmp_path / "target")


LARGE = 1 << 25
SPARSE = b"29 GNU.sparse.name=top/2.jpg\n22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n"


@contextlib.contextmanager
def little_memory() -> Iterator[None]:
    """Hold hardly more than is read at once."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ([(tarfile.XHDTYPE, LARGE)], "has headers of more than 65,536 bytes"),
        ([(tarfile.XGLTYPE, LARGE)], "has headers of more than 65,536 bytes"),
        ([(tarfile.GNUTYPE_LONGNAME, LARGE)], "has headers of more than 65,536 bytes"),
        ([(tarfile.GNUTYPE_LONGLINK, LARGE)], "has headers of more than 65,536 bytes"),
        ([(tarfile.GNUTYPE_LONGNAME, 60_000)] * 500, "has headers of more than 65,536 bytes"),
        ([(tarfile.XHDTYPE, 0)] * 2000, "has headers of more than 65,536 bytes|recursion"),
        ([(tarfile.GNUTYPE_SPARSE, LARGE)], "is neither a plain file nor a folder"),
        ([(tarfile.XHDTYPE, -512), (tarfile.REGTYPE, LARGE)], "has headers of more than 65,536 bytes"),
    ],
    ids=["pax", "global pax", "long name", "long link", "many", "deep", "sparse", "negative"],
)
def test_headers_take_no_memory(tmp_path: Path, headers: list[tuple[bytes, int]], said: str) -> None:
    archive = tmp_path / "photographs.tgz"
    with gzip.open(archive, "wb", compresslevel=1) as file:
        for kind, size in headers:
            info = tarfile.TarInfo("top/2.jpg")
            info.type, info.size = kind, size
            file.write(info.tobuf(tarfile.GNU_FORMAT) + bytes(-(-max(size, 0) // 512) * 512))
    with little_memory(), pytest.raises(UserError, match=rf"photographs\.tgz is .*{said}"):
        unpack(archive, tmp_path / "target")
    assert {path.name for path in tmp_path.iterdir()} == {"photographs.tgz"}


def test_the_holes_of_a_sparse_file_take_no_memory(pack: Pack, tmp_path: Path) -> None:
    holes = member("top/2.jpg", b"9999999\n" + b"0\n" * (LARGE // 2))
    archive = pack(member("top/2.jpg", SPARSE, tarfile.XHDTYPE), holes)
    with (
        little_memory(),
        pytest.raises(UserError, match=r"its member 'top/2\.jpg' is neither a plain file nor a folder"),
    ):
        unpack(archive, tmp_path / "target")


def test_attributes_of_many_members_take_no_memory(pack: Pack, tmp_path: Path) -> None:
    of_all = member("all", b"".join(b"13 a%04d=123\n" % number for number in range(4000)), tarfile.XGLTYPE)
    of_each = member("each", b"13 a0000=456\n", tarfile.XHDTYPE)
    archive = pack(of_all, *(each for k in range(100) for each in (of_each, member(f"top/{k}.jpg", b"two"))))
    with little_memory():
        unpack(archive, tmp_path / "target")
    assert len(list((tmp_path / "target").rglob("*.jpg"))) == 101


@pytest.mark.parametrize("mode", ["w:gz", "w:xz", "w"])
def test_archive_cut_anywhere_is_named(pack: Pack, tmp_path: Path, mode: str) -> None:
    archive = pack(member("top/2.jpg", random.Random(0).randbytes(50_000)), mode=mode)
    whole = archive.read_bytes()
    for kept in (0, 5, 3000, len(whole) // 2):
        archive.write_bytes(whole[:kept])
        with pytest.raises(UserError, match=r"photographs\.tgz is damaged or no tar archive"):
            unpack(archive, tmp_path / "target")
        assert {path.name for path in tmp_path.iterdir()} == {"photographs.tgz"}


def test_member_that_comes_twice_is_the_last(pack: Pack, tmp_path: Path) -> None:
    unpack(pack(member("top/daisy/1.jpg", b"later")), tmp_path / "target")
    assert (tmp_path / "target/top/daisy/1.jpg").read_bytes() == b"later"


def test_text_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "a.tgz").write_text("not an archive")
    with pytest.raises(UserError, match=r"a\.tgz is damaged or no tar archive"):
        unpack(tmp_path / "a.tgz", tmp_path / "target")


def test_disk_that_is_full_is_a_sentence(pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    archive = pack()
    monkeypatch.setattr(archives.shutil, "copyfileobj", full)
    with pytest.raises(UserError, match=r"target cannot be written \(No space left on device\): make room"):
        unpack(archive, tmp_path / "target")
    assert {path.name for path in tmp_path.iterdir()} == {"photographs.tgz"}


def test_files_in_the_target_stay(pack: Pack, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "mine.jpg").write_text("mine")
    with pytest.raises(UserError, match="is not an empty folder"):
        unpack(pack(), target)
    assert [path.name for path in target.iterdir()] == ["mine.jpg"]


def test_interrupted_folder_vanishes(tmp_path: Path) -> None:
    def begin() -> None:
        with whole_folder(tmp_path / "target") as building:
            (building / "half.jpg").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        begin()
    assert list(tmp_path.iterdir()) == []


FILLING = """
import sys
from pathlib import Path
from flowers.sources.archives import whole_folder
with whole_folder(Path(sys.argv[1])) as building:
    (building / "half.jpg").write_text("half")
    print("filling", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("is_killed", [True, False])
def test_what_a_killed_process_left_is_removed_and_a_living_one_is_waited_for(
    pack: Pack, tmp_path: Path, is_killed: bool
) -> None:
    archive, target = pack(), tmp_path / "target"
    command = [sys.executable, "-c", FILLING, str(target)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    with (
        subprocess.Popen(command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process,
        ThreadPoolExecutor(1) as pool,
    ):
        assert process.stdout is not None
        assert process.stdout.readline() == "filling\n"
        unpacking = pool.submit(unpack, archive, target)
        with pytest.raises(TimeoutError):
            unpacking.result(timeout=0.3)
        if is_killed:
            process.kill()
            unpacking.result(timeout=20)
        else:
            process.communicate("\n")
            with pytest.raises(UserError, match="is not an empty folder"):
                unpacking.result(timeout=20)
    assert [path.name for path in target.rglob("*.jpg")] == ["1.jpg" if is_killed else "half.jpg"]
    assert {path.name for path in tmp_path.iterdir()} == {"photographs.tgz", "target"}
