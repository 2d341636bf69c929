import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flowers.errors import suggestion, whole_files


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("dasy", ["roses", "daisy"], "did you mean 'daisy'?"),
        ("adam", {"sgd", "adamw"}, "did you mean 'adamw'?"),
        ("xyz", ["roses", "daisy"], "known: daisy, roses"),
        ("", ["roses"], "known: roses"),
        ("xyz", [], "none exist"),
        ("seed", iter(["seeds"]), "did you mean 'seeds'?"),
    ],
)
def test_the_nearest_name_is_offered_else_all(name: str, known: list[str], hint: str) -> None:
    assert suggestion(name, known) == hint


KILLED = """
import os, signal, sys
from pathlib import Path
from flowers.errors import whole_file, whole_files
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
