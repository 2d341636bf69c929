"""Measure the size of the code: `make house`. Exits with 1 if a figure is over its ceiling, which CI checks.

A ceiling is what the code may grow to today; it is lowered whenever a figure comes nearer to what is wanted.

- A module is a `.py` file, `__init__.py` included. A room is a folder of the package; one inside another
  (sources/synthetic) is a room of its own. commands/ may have any number of files.
- A line of code holds a token of Python that is no comment. Docstrings do not count, nor do other strings that stand
  alone, such as those that describe a field.
- A training is commands/train.py and what it imports, directly or through other modules of ours, inside functions too,
  but not below `if TYPE_CHECKING`; and the modules that the default configuration names with `_target_`. An
  `__init__.py` belongs to it only where it is imported by its own name. sources/, curation/ and files without code do
  not. `python tests/house.py --files` lists its files.
- A function-level import is an import statement inside a function. dvc.yaml and tracking/ count with every line.
"""

import ast
import functools
import importlib.util
import io
import re
import sys
import tokenize
from collections import Counter
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src/flowers"
LIMITS = {
    "modules in src": (100, 114),
    "lines of code in src": (9_000, 12_700),
    "files at the top of the package": (6, 6),
    "files in the largest room": (14, 14),
    "files of a training": (20, 29),
    "lines of code of a training": (2_000, 3_860),
    "lines of dvc.yaml": (160, 160),
    "function-level imports in src": (60, 25),
    "lines of tracking": (800, 1_250),
}
"""What is wanted, and the ceiling."""


@functools.cache
def nodes(file: Path) -> list[ast.AST]:
    """List the nodes of a file's syntax tree, without what is below `if TYPE_CHECKING`."""
    found: list[ast.AST] = []
    waiting: list[ast.AST] = [ast.parse(file.read_text())]
    while waiting:
        node = waiting.pop()
        found.append(node)
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)
    return found


@functools.cache
def lines_of_code(file: Path) -> int:
    """Count the lines that hold code."""
    source = file.read_text()
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.string.strip() and token.type != tokenize.COMMENT:
            code.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            code.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return sum(bool(line.strip()) for number, line in enumerate(source.splitlines(), start=1) if number in code)


def function_imports(file: Path) -> int:
    """Count the import statements inside functions."""
    functions = [node for node in nodes(file) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return len({node for each in functions for node in ast.walk(each) if isinstance(node, ast.Import | ast.ImportFrom)})


def module_file(name: str) -> Path | None:
    """Find the file of a module of ours; None if there is no such module."""
    path = PACKAGE.parent.joinpath(*name.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def imports(file: Path) -> set[Path]:
    """List the files of ours that a file imports."""
    package = ".".join(file.relative_to(PACKAGE.parent).parent.parts)
    found: set[Path | None] = set()
    for node in nodes(file):
        if isinstance(node, ast.Import):
            found |= {module_file(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            origin = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            found |= {module_file(f"{origin}.{alias.name}") or module_file(origin) for alias in node.names}
    return {each for each in found if each}


def configured_targets() -> set[str]:
    """Find what the default configuration names: conf/config.yaml and the files that its defaults lists name."""
    found: set[str] = set()
    waiting = [ROOT / "conf/config.yaml"]
    while waiting:
        file = waiting.pop()
        if not file.is_file():  # it is Hydra's own
            continue
        found |= set(re.findall(r"_target_: *(flowers\.[\w.]+)", file.read_text()))
        for entry in (yaml.safe_load(file.read_text()) or {}).get("defaults", []):
            ((group, option),) = entry.items() if isinstance(entry, dict) else [("", entry)]
            group = group.removeprefix("override ").partition("@")[0]
            folder = ROOT / "conf" if group.startswith("/") else file.parent
            waiting.append(folder / group.strip("/") / f"{str(option).partition('@')[0]}.yaml")
    return found


def training_files() -> list[Path]:
    """List the files with code that a training passes through."""
    named = {module_file(target.rpartition(".")[0]) for target in configured_targets()}
    waiting = [PACKAGE / "commands/train.py", *(file for file in named if file)]
    seen: set[Path] = set()
    while waiting:
        file = waiting.pop()
        if file not in seen and file.relative_to(PACKAGE).parts[0] not in ("sources", "curation"):
            seen.add(file)
            waiting += imports(file)
    return sorted(file for file in seen if lines_of_code(file))


def main() -> None:
    """Print the table."""
    modules, training = list(PACKAGE.rglob("*.py")), training_files()
    rooms = Counter(file.parent for file in modules)
    figures = [
        len(modules),
        sum(map(lines_of_code, modules)),
        rooms.pop(PACKAGE),
        max(count for room, count in rooms.items() if room.name != "commands"),
        len(training),
        sum(map(lines_of_code, training)),
        len((ROOT / "dvc.yaml").read_text().splitlines()),
        sum(map(function_imports, modules)),
        sum(len(file.read_text().splitlines()) for file in (PACKAGE / "tracking").rglob("*.py")),
    ]
    print(f"{'':34}{'today':>7}{'wanted':>9}{'ceiling':>9}")
    for (name, (wanted, ceiling)), figure in zip(LIMITS.items(), figures, strict=True):
        print(f"{name:34}{figure:7,}{wanted:9,}{ceiling:9,}{'  over' if figure > ceiling else ''}")
    if "--files" in sys.argv:
        print(*(f"{lines_of_code(file):5}  {file.relative_to(PACKAGE)}" for file in training), sep="\n")
    sys.exit(any(figure > ceiling for (_, ceiling), figure in zip(LIMITS.values(), figures, strict=True)))


if __name__ == "__main__":
    main()
