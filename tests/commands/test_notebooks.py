"""The notebooks read what the package made, define nothing, and run from their first cell to their last."""

import ast
import importlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import pytest

import flowers
from flowers.commands.evaluate import evaluate
from flowers.commands.notebooks import run_notebook
from flowers.commands.train import train
from flowers.config.schema import Settings
from flowers.errors import UserError

ROOT = Path(__file__).parents[2]
TEXTS = sorted((ROOT / "notebooks").glob("*.py"))
ALLOWED = {"flowers", "pandas", "pathlib"}
"""Of flowers only what is public."""
LONGEST_WORDS = 1000
"""At 200 words a minute that leaves half of ten minutes for the figures."""


def cells(text: Path, kind: str) -> list[str]:
    return [cell.source for cell in jupytext.read(text).cells if cell.cell_type == kind]


def code(text: Path) -> ast.Module:
    return ast.parse("\n".join(cells(text, "code")))


def test_there_are_two() -> None:
    assert [text.stem for text in TEXTS] == ["01_data", "02_results"]


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text.stem)
def test_nothing_is_defined(text: Path) -> None:
    defined = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
    assert not [ast.unparse(node) for node in ast.walk(code(text)) if isinstance(node, defined)]


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text.stem)
def test_one_name_is_there_to_change(text: Path) -> None:
    (first,) = ast.parse(cells(text, "code")[0]).body
    assert isinstance(first, ast.Assign)
    assert isinstance(first.value, ast.Constant)
    assert isinstance(first.value.value, str)
    stored = [
        node.id for node in ast.walk(code(text)) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    ]
    assert [name for name in stored if name.isupper()] == [ast.unparse(first.targets[0])]


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text.stem)
def test_what_is_imported_is_there(text: Path) -> None:
    for node in ast.walk(code(text)):
        if isinstance(node, ast.Import):
            assert {alias.name for alias in node.names} <= ALLOWED
        elif isinstance(node, ast.ImportFrom):
            assert str(node.module) in ALLOWED
            assert all(hasattr(importlib.import_module(str(node.module)), alias.name) for alias in node.names)
    used = {
        node.attr
        for node in ast.walk(code(text))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "flowers"
    }
    assert used <= set(flowers.__all__)


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text.stem)
def test_the_first_picture_comes_after_five_imports_at_most(text: Path) -> None:
    assert sum(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.walk(code(text))) <= 5


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text.stem)
def test_it_is_read_in_ten_minutes(text: Path) -> None:
    words = sum(len(cell.split()) for cell in cells(text, "markdown"))
    assert words < LONGEST_WORDS
    assert max(len(cell.splitlines()) for cell in cells(text, "code")[3:]) <= 12


def test_outputs_are_not_committed() -> None:
    assert "/notebooks/*.ipynb" in (ROOT / ".gitignore").read_text().splitlines()


def write(folder: Path, *sources: str) -> Path:
    """Write a notebook of code cells into a project."""
    (folder / "params.yaml").touch()
    text = folder / "notebooks/one.py"
    text.parent.mkdir(exist_ok=True)
    text.write_text("\n\n".join(f"# %%\n{source}" for source in sources) + "\n")
    return text


START = "import flowers\nflowers.start_notebook()"
ASKS = "import flowers\nraise flowers.UserError('name a folder.')"


@pytest.mark.slow
def test_what_asks_the_reader_is_one_sentence(tmp_path: Path) -> None:
    text = write(tmp_path, START, ASKS)
    older = text.with_suffix(".ipynb")
    older.write_text("older")
    with pytest.raises(UserError, match=r"one\.py: name a folder\.$"):
        run_notebook(text)
    assert older.read_text() == "older"


@pytest.mark.slow
def test_the_reader_sees_no_traceback(tmp_path: Path) -> None:
    # The second cell looks at what IPython shows for an error; a kernel's cell would end the run.
    look = (
        "from IPython.core.getipython import get_ipython\n"
        "shell, shown = get_ipython(), []\n"
        "shell._showtraceback = lambda kind, error, lines: shown.extend(lines)\n"
        f"result = shell.run_cell({ASKS!r})\n"
        "print(shown, type(result.error_in_exec).__name__)"
    )
    notebook = nbformat.read(run_notebook(write(tmp_path, START, look)), 4)
    assert notebook.cells[1].outputs[0].text == "['flowers: name a folder.'] UserError\n"


@pytest.mark.slow
def test_another_failure_keeps_its_traceback(tmp_path: Path) -> None:
    from nbclient.exceptions import CellExecutionError

    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        run_notebook(write(tmp_path, START, "1 / 0"))
    assert not (tmp_path / "notebooks/one.ipynb").exists()


def run_on(name: str, folder: Path, value: str) -> list[Any]:
    """Run a notebook in a project, after changing its one name; return its code cells."""
    (folder / "params.yaml").touch()
    (folder / "notebooks").mkdir(exist_ok=True)
    text = Path(shutil.copy(ROOT / "notebooks" / f"{name}.py", folder / "notebooks"))
    first = cells(text, "code")[0]
    assert text.read_text().count(first) == 1
    text.write_text(text.read_text().replace(first, f"{first.partition('=')[0]}= {value!r}"))
    notebook = nbformat.read(run_notebook(text), 4)
    found = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in found:
        said = [output.text for output in cell.outputs if output.get("name") == "stderr"]
        assert not said, f"{cell.source}\n{said}"
    return found


def figures(found: list[Any]) -> int:
    return sum("image/png" in output.get("data", {}) for cell in found for output in cell.outputs)


@pytest.mark.slow
def test_photographs_are_shown(photographs: Path, tmp_path: Path) -> None:
    copies = Path(shutil.copytree(photographs, tmp_path / "our photos"))
    shutil.copy(copies / "daisy/daisy_00.jpg", copies / "daisy/again.jpg")
    before = {path: path.read_bytes() for path in copies.rglob("*.jpg")}
    found = run_on("01_data", tmp_path, str(copies))
    assert figures(found) == 4  # classes, what is alike, augmentation, suspects
    assert before == {path: path.read_bytes() for path in copies.rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:::mlflow")
def test_results_are_shown(make_settings: Callable[..., Settings], tmp_path: Path) -> None:
    # Whole, as MLflow remembers within a process which file a relative address once meant.
    store = f"tracking.uri=sqlite:///{tmp_path / 'mlflow.db'}"
    tracked = ("tracking.enabled=true", store, "tracking.system_metrics_s=0")
    for name in ("first", "second"):
        settings = make_settings(*tracked, f"out_dir=trained/{name}", f"seed={len(name)}", f"name={name}")
        train(settings)
        evaluate(Path(settings.out_dir), Path(settings.out_dir) / "test", explanations=False)  # the notebook's own are
    found = run_on("02_results", tmp_path, "trained/first")
    assert figures(found) == 7  # side by side, curves, confusion, two of confidence, mistakes, explanations
    (table,) = (cell.outputs[0].data["text/html"] for cell in found if "trainings" in cell.source)
    assert "second" in table
    (ranked,) = (cell.outputs[0].data["text/markdown"] for cell in found if "ranking(" in cell.source)
    assert "second" in ranked
