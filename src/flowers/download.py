"""Get the photographs of a data set: ``python -m flowers.download data=sample out_dir=artifacts/download``.

Writes the photographs that intake accepted in class folders, and ``manifest.csv`` with a row for every file that was
looked at, refused ones with their reason.
"""

from pathlib import Path

from flowers.commands import locate, run_command
from flowers.errors import UserError
from flowers.settings import Settings


def download(settings: Settings) -> None:
    """Fill ``out_dir/<data set>`` and write ``out_dir/manifest.csv``.

    Raises:
        UserError: If the photographs cannot be used, or there are some in the folder already.
    """
    from flowers.data.intake import scan, summarise
    from flowers.data.sources import copy_accepted

    data = settings.data
    out = Path(settings.out_dir)
    photographs = out / data.name
    if photographs.exists() and any(photographs.iterdir()):
        raise UserError(f"{photographs} is not empty; choose another out_dir, or delete that folder to fill it anew.")
    out.mkdir(parents=True, exist_ok=True)
    if data.source is None:
        manifest = scan(Path(data.root), data.strict)
        copy_accepted(manifest, Path(data.root), photographs)
    else:
        fill = locate("data.source", data.source, "flowers.data.")
        fill(photographs, **{name: value for name, value in data.source.items() if name != "_target_"})
        manifest = scan(photographs, data.strict)
    manifest.to_csv(out / "manifest.csv", index=False)
    print(f"{photographs}:\n{summarise(manifest)}", flush=True)


if __name__ == "__main__":
    run_command(download)
