"""The commands need no more than Python promises on all systems: macOS and Windows too, and any console."""

import ctypes
import importlib
import os
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NoReturn

import pandas as pd
import psutil
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tests.processes import call_flowers

from flowers.config import provenance
from flowers.models import inference

ROOT = Path(__file__).parents[1]
POSIX_MODULES = ("fcntl", "grp", "pwd", "resource", "termios")
"""Of Python's own modules, those that Windows does not have."""
LINUX_CALLS: tuple[str, ...] = (
    "fork",
    "forkpty",
    "geteuid",
    "getuid",
    "killpg",
    "mkfifo",
    "posix_fallocate",
    "posix_fadvise",
    "pread",
)
LINUX_CALLS += ("preadv", "pwrite", "pwritev", "sched_getaffinity", "sched_setaffinity", "setsid")
"""Of `os`, what Windows or macOS do not have."""


def hide() -> None:
    """Take away from this process what other systems lack, and forget our modules, which may have imported it."""
    for name in POSIX_MODULES:
        sys.modules[name] = None  # type: ignore[assignment]
    for name in LINUX_CALLS:
        if hasattr(os, name):
            delattr(os, name)
    for name in [name for name in sys.modules if name.partition(".")[0] == "flowers"]:
        del sys.modules[name]


def import_all() -> None:
    """Import every module of the package as another system would."""
    hide()
    package = importlib.import_module("flowers")
    for module in pkgutil.walk_packages(package.__path__, "flowers."):
        importlib.import_module(module.name)


@pytest.mark.slow
def test_every_module_can_be_imported_elsewhere(tmp_path: Path) -> None:
    done = call_flowers(tmp_path, "--help", before=import_all)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_training_evaluation_and_prediction_need_no_more(photographs: Path, tmp_path: Path) -> None:
    small = ["experiment=cnn_scratch", "trainer=brief", "model.net.width=4", "model.net.image_px=32"]
    words = [*small, "data=folder", f"data.root={photographs}", "data.batch_size=8", "out_dir=out"]
    for command in (
        ["train", *words],
        ["evaluate", "model=out"],
        ["predict", "model=out", f"photos={photographs}", "out=predictions.csv"],
    ):
        done = call_flowers(tmp_path, *command, before=hide)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
    assert len((tmp_path / "predictions.csv").read_text().splitlines()) == 1 + 36
    assert not (tmp_path / "mlruns/.running").exists()  # the run is closed, and its lock is gone


def test_processors_and_memory_are_known_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1 <= provenance.usable_processors() <= (os.cpu_count() or 1)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert provenance.usable_processors() == os.cpu_count()
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert provenance.usable_processors() == 1
    monkeypatch.setattr(provenance, "resource", None)
    assert 0.5 < provenance.peak_memory_bytes() / psutil.Process().memory_info().rss < 2


def test_the_allocator_is_only_spoken_to_on_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str | None) -> NoReturn:
        raise TypeError("LoadLibrary() argument 1 must be str, not None")

    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(ctypes, "CDLL", refuse)
    inference.keep_freed_memory()


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_any_console_can_show_it(encoding: str, tmp_path: Path) -> None:
    variables = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT / "src")}
    script = "import sys; from flowers.__main__ import main; sys.argv = ['flowers']; main(); print('Blüten → ½ …')"
    done = subprocess.run([sys.executable, "-c", script], env=variables, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    wanted = "Blüten → ½ …".encode(encoding, errors="backslashreplace")
    assert done.stdout.splitlines()[-1] == wanted


def test_a_stage_is_a_command_that_every_shell_reads() -> None:
    """It sets no variable, say, which `cmd.exe` could not."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    commands = pd.Series([stage["cmd"] for stage in stages.values()]).explode()
    assert commands.str.match("flowers [a-z_]+").all()


def test_the_same_versions_of_python_are_named_everywhere() -> None:
    """Hydra does not start on 3.14, so the installation refuses it before the first command would fail."""
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"] == ">=3.11,<3.14"
    assert "(3, 11) <= sys.version_info < (3, 14)" in (ROOT / "Makefile").read_text()
    assert "Python 3.11 to 3.13" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("python", ["3.11.4", "3.12.0", "3.13.0"])
@pytest.mark.parametrize("system", ["linux", "darwin", "win32"])
def test_the_lock_pins_every_dependency_with_hashes(system: str, python: str) -> None:
    entries = re.split(r"\n(?=\w)", (ROOT / "requirements.lock").read_text().replace("\\\n", ""))
    assert len(entries) > 200
    here = {"sys_platform": system, "python_full_version": python, "python_version": python[:4]}
    pinned = {}
    for entry in (entry for entry in entries if not entry.startswith("#")):
        requirement, *hashes = re.split(r"\s+--hash=sha256:", entry.strip())
        assert hashes, requirement
        assert all(re.fullmatch("[0-9a-f]{64}", each) for each in hashes), requirement
        wanted = Requirement(requirement)
        if wanted.marker is None or wanted.marker.evaluate(here):
            assert wanted.name not in pinned
            pinned[wanted.name] = next(iter(wanted.specifier)).version
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for given in project["dependencies"] + project["optional-dependencies"]["dev"]:
        declared = Requirement(given)
        assert declared.specifier.contains(pinned[canonicalize_name(declared.name)]), given


def test_text_files_have_the_same_bytes_in_every_clone() -> None:
    """Else git's core.autocrlf, which is on where it was installed on Windows, would change digests that DVC pins."""
    assert "* text=auto eol=lf" in (ROOT / ".gitattributes").read_text().splitlines()
