"""The figures of `make house` are counted by the rules that it states."""

from pathlib import Path
from types import ModuleType

import pytest
from tests import house as script

CONTENT = '''"""What the module is for."""

import os  # a comment beside code
from typing import TYPE_CHECKING

# a comment
if TYPE_CHECKING:
    import flowers.report.curves

FIELD = 1
"""What describes a field,
on two lines."""
TEXT = """one

three"""


def function() -> None:
    """What it does."""
    import flowers.errors

    def inner() -> None:
        from flowers.config import schema
'''


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, set on a small package: each file holds its text."""
    files = {
        "src/flowers/__init__.py": '"""Nothing but words."""\n',
        "src/flowers/errors.py": "A = 1\n",
        "src/flowers/commands/train.py": CONTENT,
        "src/flowers/commands/other.py": "A = 1\n",
        "src/flowers/config/schema.py": "from flowers.sources import files\nfrom . import own\n",
        "src/flowers/config/own.py": "A = 1\n",
        "src/flowers/data/module.py": "import flowers.models.nets as nets\n",
        "src/flowers/models/nets.py": "A = 1\n",
        "src/flowers/report/curves.py": "A = 1\n",
        "src/flowers/sources/files.py": "import flowers.commands.other\n",
        "conf/config.yaml": "defaults:\n  - _self_\n  - data: sample\n  - override hydra/help: own\n",
        "conf/data/sample.yaml": "defaults: [base]\n",
        "conf/data/base.yaml": "module: {_target_: flowers.data.module.Module}\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(script, "ROOT", tmp_path)
    monkeypatch.setattr(script, "PACKAGE", tmp_path / "src/flowers")
    return script


def test_figures_of_a_file(house: ModuleType) -> None:
    file = house.PACKAGE / "commands/train.py"
    assert house.lines_of_code(file) == 11
    assert house.function_imports(file) == 2
    assert house.lines_of_code(house.PACKAGE / "__init__.py") == 0


def test_files_of_a_training(house: ModuleType) -> None:
    found = {file.relative_to(house.PACKAGE).as_posix() for file in house.training_files()}
    assert found == {
        "commands/train.py",
        "config/own.py",
        "config/schema.py",
        "data/module.py",
        "errors.py",
        "models/nets.py",
    }
