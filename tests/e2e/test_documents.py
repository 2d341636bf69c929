"""The commands of the pages that a user reads are run, in their order, as they stand there.

The reader's own files are small pictures, and the folder's own ``conf`` makes the work a matter of seconds: few epochs
of small networks, nothing fetched, no MLflow. A server is called, and ended by Ctrl-C as soon as it serves.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from tests.documents import ROOT, commands
from tests.e2e.projects import make_smaller
from tests.processes import call_flowers
from tests.test_documents import PACKAGE

from flowers.__main__ import COMMANDS

PAGES = ("README.md", "CONTRIBUTING.md", "notebooks/*.py")
INSTEAD = """# @package _global_
defaults: [override /model: cnn]
name: {name}
model: {{stages: [{{name: all, epochs: 20, train: all, max_lr: 1e-2}}]}}
"""
"""What a recipe becomes whose weights would be fetched."""


@pytest.fixture
def folder(photographs: Path, tmp_path: Path) -> Path:
    """What the pages take for granted: PHOTOS, NEW, others, from elsewhere (DIR, OTHER), and a package."""
    (tmp_path / "mypackage.py").write_text(PACKAGE)
    for name in ("PHOTOS", "NEW"):
        shutil.copytree(photographs, tmp_path / name)
    shutil.copytree(photographs / "roses", tmp_path / "garden")
    shutil.copyfile(photographs / "roses/roses_00.jpg", tmp_path / "a.jpg")
    for name in ("DIR", "OTHER"):
        for file in photographs.rglob("*.jpg"):
            turned = tmp_path / name / file.relative_to(photographs)
            turned.parent.mkdir(parents=True, exist_ok=True)
            Image.open(file).rotate(90).save(turned, quality=92)
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    make_smaller(tmp_path)
    for recipe in (tmp_path / "conf/experiment").glob("*.yaml"):
        if "model: backbone" in recipe.read_text(encoding="utf-8"):
            recipe.write_text(INSTEAD.format(name=recipe.stem))
    config = tmp_path / "conf/config.yaml"
    config.write_text(config.read_text(encoding="utf-8").replace("enabled: true", "enabled: false"), encoding="utf-8")
    return tmp_path


def serve(folder: Path, *words: str) -> tuple[int, str]:
    """Call a server until it says that it serves; return its exit code, and what it said."""
    command = [sys.executable, "-m", "flowers", *words]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        said = next((line for line in server.stdout if "Ctrl-C" in line), "")
        server.send_signal(signal.SIGINT)
        try:
            server.wait(timeout=60)
        finally:
            server.kill()
    return server.returncode, said


@pytest.mark.slow
def test_commands_of_the_pages_run(folder: Path) -> None:
    wrong = []
    for command in commands(*PAGES):
        program, *words = shlex.split(command)
        if program != "flowers" or len(words) == 1:  # which is a mention
            continue
        if "BEFORE" in command:
            for name in ("BEFORE", "AFTER"):
                shutil.copytree(folder / "OUT", folder / name)
        if words and re.search("Ctrl-C ends", (COMMANDS / f"{words[0]}.py").read_text()):
            code, said = serve(folder, *words)
            code = code if said else 1
        else:
            done = call_flowers(folder, *words, PYTHONPATH=str(folder))
            code, said = done.returncode, done.stdout + done.stderr
            time.sleep(1)  # a run's own folder is called after the second in which it began
        promised = "accuracy=" not in command or "cannot promise" not in said  # as six photographs cannot
        if (promised and code not in (0, 130)) or "Traceback" in said:
            wrong.append(f"{command}: {code}\n{said[-800:]}")
    assert not wrong, "\n\n".join(wrong)
