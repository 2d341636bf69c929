"""The commands: ``flowers`` lists them, ``flowers COMMAND …`` runs one; ``python -m flowers`` does the same."""

import ast
import importlib
import sys
from pathlib import Path

from flowers.errors import suggestion

COMMANDS = Path(__file__).parent / "commands"


def summaries() -> dict[str, str]:
    """Say of each command in a line what it does, without importing it."""
    files = sorted(file for file in COMMANDS.glob("*.py") if file.stem != "__init__")
    documented = {file.stem: ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "" for file in files}
    return {name: text.partition("\n")[0].partition(":")[0].rstrip(".") for name, text in documented.items()}


def main() -> None:
    """List the commands, or run the one that the first word names."""
    name, words = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("--help", [])
    known = summaries()
    if name in ("--help", "-h", "help"):
        width = max(map(len, known))
        print("flowers: photographs in; a trained, explained and honestly measured classifier out.\n")
        print("Usage: flowers COMMAND [key=value …]      flowers COMMAND --help says more\n")
        print("\n".join(f"  {each:{width}}  {text}" for each, text in known.items()))
        return
    if name.replace("-", "_") not in known:
        print(f"flowers: there is no command '{name}': {suggestion(name, known)}", file=sys.stderr)
        sys.exit(2)
    name = name.replace("-", "_")
    sys.argv = [f"flowers {name}", *words]
    importlib.import_module(f"flowers.commands.{name}").main()


if __name__ == "__main__":
    main()
