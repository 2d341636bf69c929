"""The commands that the project's documents name: pages, notebooks, comments, docstrings and messages.

A command is code in backticks or a line of a code block that begins with one of :data:`PROGRAMS`. What stands for
something to be filled in (``flowers COMMAND``, ``uri=…``, the parts of a message in braces) is a form and no command;
capitals as a value (``data.root=PHOTOS``) are the reader's files, and belong to it. N is a number.
"""

import ast
import io
import re
import shlex
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROGRAMS = "flowers|dvc|make|mlflow|python -m"
PAGES = (
    "*.md",
    "benchmarks/*.md",
    "data/*?.dvc",
    "*.yaml",
    "conf/**/*.yaml",
    "notebooks/*.py",
    "src/**/*.py",
    "benchmarks/**/*.py",
)


def commands(*patterns: str) -> dict[str, str]:
    """Find the commands in files of the project, in their order, and the file that names each first."""
    found: dict[str, str] = {}
    for file in (file for pattern in patterns or PAGES for file in sorted(ROOT.glob(pattern))):
        for text in _texts(file):
            for command in _commands(text, fenced=file.suffix == ".md"):
                found.setdefault(command, str(file.relative_to(ROOT)))
    return found


def _texts(file: Path) -> Iterator[str]:
    """Give what a file tells its readers: a page whole, of code the texts and comments."""
    source = file.read_text(encoding="utf-8")
    if file.suffix == ".md":
        yield source
    elif file.suffix == ".py":
        yield from (
            each.value
            for each in ast.walk(ast.parse(source))
            if isinstance(each, ast.Constant) and isinstance(each.value, str)
        )
        tokens = tokenize.generate_tokens(io.StringIO(source).readline)
        yield _uncomment("\n".join(token.string for token in tokens if token.type == tokenize.COMMENT))
    else:
        yield _uncomment("\n".join(line for line in source.splitlines() if line.startswith("#")))


def _uncomment(text: str) -> str:
    return re.sub(r"^# ?", "", text, flags=re.MULTILINE)


def _commands(text: str, fenced: bool) -> Iterator[str]:
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.DOTALL | re.MULTILINE) if fenced else [text]
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    indent = "" if fenced else "  +"
    lines = [
        line
        for block in blocks
        for line in re.findall(rf"^{indent}((?:{PROGRAMS})(?: .*)?)$", block.replace("\\\n", " "), re.MULTILINE)
    ]
    inline = [code for _, code in re.findall(rf"(?<!`)(``?)((?:{PROGRAMS})\s[^`]+)\1(?!`)", text)]
    for code in (part for each in (*lines, *inline) for part in re.split(r"\s&&\s", each)):
        words = shlex.split(code, comments=True)
        form = re.search(r"[…{]", code) or any(word.isupper() for word in words[1:2])
        if re.match(PROGRAMS, code) and not form:
            yield re.sub(r"=N\b", "=1", shlex.join(words))
