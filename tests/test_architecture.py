"""The house stands as it is meant: imports point down, and a stage depends on the rooms that it runs.

Both are read from the source, function-level imports included; nothing is executed.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tests import house

from flowers.training import checkpoints

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src"
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
ROOMS = sorted(file.parent.name for file in (SRC / "flowers").glob("*/__init__.py"))


def reached(start: Path) -> set[Path]:
    """Follow the imports of a file to the end."""
    seen: set[Path] = set()
    waiting = [start]
    while waiting:
        file = waiting.pop()
        if file not in seen:
            seen.add(file)
            waiting += house.imports(file)
    return seen


def test_imports_point_down() -> None:
    command = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    assert command is not None
    done = subprocess.run([command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_stage_lists_the_rooms_that_its_command_reaches(stage: str) -> None:
    name = str(STAGES[stage]["cmd"]).partition("flowers ")[2].split()[0]
    command = SRC / "flowers/commands" / f"{name}.py"
    wanted = set()
    for file in reached(command):
        room = file.relative_to(SRC / "flowers").parts[0]
        if room == "commands":
            wanted.add(str(file.relative_to(ROOT)))
        elif room in ROOMS:
            wanted.add(f"src/flowers/{room}")
    stated = [dependency for dependency in STAGES[stage]["deps"] if dependency.startswith("src/")]
    assert stated == sorted(wanted)


def test_a_checkpoint_belongs_to_the_rooms_that_decide_a_training() -> None:
    reached_rooms = {file.relative_to(house.PACKAGE).parts[0] for file in house.training_files()}
    # The split's digest stands for what makes it; what is drawn and recorded decides nothing.
    assert set(checkpoints.ROOMS) == reached_rooms - {"commands", "atomic.py", "errors.py", "report", "tracking"}


def test_the_pipeline_takes_every_data_set() -> None:
    """DVC finds a key that dvc.yaml names in the file itself, not in those that its defaults list names."""
    keys = {
        file: keys for each in STAGES["download"]["params"] if isinstance(each, dict) for file, keys in each.items()
    }
    assert keys["conf/data/${dataset}.yaml"] is None  # all that is there
    needed = set(keys["conf/data/${outliers}.yaml"])
    for file in (ROOT / "conf/data").glob("*.yaml"):
        assert file.stem == "base" or needed <= yaml.safe_load(file.read_text()).keys(), file
