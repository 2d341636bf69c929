"""Which code a command runs, and what ends it."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from flowers.__main__ import COMMANDS
from flowers.config.compose import CONF_DIR

WHERE = '''"""Say where the code lies."""
import multiprocessing
import flowers
def where(): print(flowers.__file__, flush=True)
def main():
    where()
    worker = multiprocessing.get_context("spawn").Process(target=where)
    worker.start(); worker.join()
'''
STAGE = (
    "import time; from flowers.__main__ import end_with_dvc; end_with_dvc(); print('runs', flush=True); time.sleep(60)"
)
DVC = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {STAGE!r}])"


def test_the_source_in_the_working_folder_runs(tmp_path: Path) -> None:
    installed, here = COMMANDS.parent, tmp_path / "src/flowers"
    (here / "commands").mkdir(parents=True)
    for name in ("__init__.py", "__main__.py", "atomic.py", "errors.py", "commands/__init__.py"):
        shutil.copyfile(installed / name, here / name)
    shutil.copytree(installed / "config", here / "config")
    shutil.copytree(CONF_DIR, tmp_path / "conf")
    (here / "commands/where.py").write_text(WHERE)
    environment = os.environ | {"PYTHONPATH": str(installed.parent)}  # as an installation is found
    done = subprocess.run(
        [sys.executable, "-m", "flowers", "where"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == [str(here / "__init__.py")] * 2, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has ended")
def test_a_stage_ends_with_dvc() -> None:
    environment = os.environ | {"DVC_STAGE": "train", "PYTHONPATH": str(COMMANDS.parents[1])}
    with subprocess.Popen([sys.executable, "-c", DVC], env=environment, stdout=subprocess.PIPE, text=True) as dvc:
        assert dvc.stdout is not None
        assert dvc.stdout.readline() == "runs\n"
        (stage,) = psutil.Process(dvc.pid).children()
        dvc.send_signal(signal.SIGTERM)
        dvc.wait()
        psutil.wait_procs([stage], timeout=10)
        assert not stage.is_running()
