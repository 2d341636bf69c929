import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

from flowers.atomic import whole_file, whole_files

KILLED = """
import os, signal, sys
from pathlib import Path
from flowers.atomic import whole_file, whole_files
out = Path(sys.argv[1])
with whole_file(out / "table.csv") as half, whole_files(out, "run.json") as partial:
    half.write_text("a,")
    (partial / "weights").write_text("half")
    print(*(path.name for path in out.iterdir()), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_removed_by_the_next_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    left = {path.name for path in tmp_path.iterdir()}
    assert left == set(done.stdout.split())
    assert len(left) == 2
    living = tmp_path / f".{os.getppid()}@{platform.node()}.part.csv"
    living.touch()
    other_machine = tmp_path / ".1@elsewhere.part.csv"
    other_machine.touch()
    with whole_files(tmp_path, "run.json") as partial:
        (partial / "run.json").write_text("{}")
        (partial / "weights").write_text("whole")
        assert not (tmp_path / "run.json").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"run.json", "weights", living.name, other_machine.name}


def test_files_of_one_folder_that_are_written_at_the_same_time_do_not_meet(tmp_path: Path) -> None:
    with whole_file(tmp_path / "a.csv") as first:
        first.write_text("a")
        with whole_file(tmp_path / "b.csv") as second, whole_files(tmp_path, "c.csv") as folder:
            assert first.read_text() == "a"
            second.write_text("b")
            (folder / "c.csv").write_text("c")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.csv": "a", "b.csv": "b", "c.csv": "c"}
