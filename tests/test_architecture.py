"""The house stands as it is meant: imports point down, and a stage depends on the rooms that it runs.

Both are read from the source, function-level imports included; nothing is executed.
"""

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src"
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
ROOMS = sorted(file.parent.name for file in (SRC / "flowers").glob("*/__init__.py"))


def module_file(name: str) -> Path | None:
    file = SRC.joinpath(*name.split(".")).with_suffix(".py")
    return file if file.is_file() else None


def executed(node: ast.AST) -> Iterator[ast.AST]:
    """Visit what can run: everything but `if TYPE_CHECKING:`."""
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        for other in node.orelse:
            yield from executed(other)
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from executed(child)


def imports(file: Path) -> set[str]:
    """List the modules of ours that a file imports."""
    found: set[str] = set()
    for node in executed(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return {name for name in found if name.startswith("flowers.") and module_file(name)}


def reached(start: Path) -> set[Path]:
    """Follow the imports of a file to the end."""
    seen: set[Path] = set()
    waiting = [start]
    while waiting:
        file = waiting.pop()
        if file not in seen:
            seen.add(file)
            waiting += [each for name in imports(file) for each in [module_file(name)] if each]
    return seen


def test_imports_point_down() -> None:
    command = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    assert command is not None
    done = subprocess.run([command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_stage_lists_the_rooms_that_its_command_reaches(stage: str) -> None:
    name = STAGES[stage]["cmd"].partition("flowers ")[2].split()[0]
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
