"""Show what is in a data set: ``flowers data_card data=folder data.root=PHOTOS out_dir=OUT``.

Writes ``card/index.html``, one page with everything in it, and ``card/card.json`` with its figures. What the pipeline
has downloaded and split under the data set's name is shown with that split; other photographs are taken in and split
as a training would.
"""

import json
from pathlib import Path

from flowers.config.cli import run_command
from flowers.config.compose import read_data
from flowers.config.schema import Settings
from flowers.report.contents import look_into
from flowers.report.data_card import write_card

LICENCES = ("LICENSE.txt", "LICENSE", "LICENSE.md", "LICENCE.txt", "LICENCE", "README.txt")


def card(settings: Settings) -> Path:
    """Show what is in a data set.

    Returns:
        The page.

    Raises:
        UserError: If the photographs or their split cannot be used.
    """
    contents = look_into(read_data(settings))
    root = contents.root
    out = Path(settings.out_dir) / "card"
    out.mkdir(parents=True, exist_ok=True)
    (out / "card.json").write_text(json.dumps(contents.found, indent=2) + "\n", encoding="utf-8")
    source = settings.data.source or {}
    origin = {"folder": str(root), **{key.strip("_"): str(value) for key, value in source.items()}}
    licence = next((root / name for name in LICENCES if (root / name).is_file()), None)
    text = "" if licence is None else licence.read_text(encoding="utf-8", errors="replace")
    write_card(contents.found, contents.table, contents.pixels, origin, text, out / "index.html")
    if settings.tracking.enabled:
        _record(settings, out)
    print(f"{out / 'index.html'}: {len(contents.table)} photographs of {root}", flush=True)
    return out / "index.html"


def _record(settings: Settings, out: Path) -> None:
    from flowers.tracking import log as tracking

    with tracking.result_run(settings, "card", f"{settings.data.name} card"):
        for name in ("index.html", "card.json"):
            tracking.log_file(out / name, "card")


def main() -> None:
    """Describe the data set that the command line names."""
    run_command(card)
