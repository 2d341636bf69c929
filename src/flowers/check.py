"""Check a split for leaks: ``python -m flowers.check split=artifacts/split/split.csv manifest=MANIFEST near_bits=90``.

Fails, with exit code 2, where a group or the same bytes lie in two splits or folds. With a manifest, it fails also
where near-duplicates do, or where the split names a photograph that the manifest does not know, or has other bytes of.
"""

from dataclasses import dataclass
from pathlib import Path

from flowers.commands import exit_on_user_error, read_arguments
from flowers.errors import UserError


def check(split: Path, manifest: Path | None, near_bits: int) -> str:
    """Check a split.

    Args:
        split: A ``split.csv``, made by the stage or by hand.
        manifest: The manifest of its photographs; None: what the split says of itself is all that is checked.
        near_bits: As ``data.split.near_bits``.

    Returns:
        What was found, in words.

    Raises:
        UserError: If something leaks; it names the photographs.
    """
    import pandas as pd

    from flowers.data.duplicates import near_duplicates
    from flowers.data.intake import read_manifest
    from flowers.data.split_table import SPLITS, read_splits

    table = read_splits(split)
    counts = pd.crosstab(table["label"], table["split"]).reindex(columns=list(SPLITS), fill_value=0)
    words = f"{split}:\n{counts.to_string()}\nno group and no file's bytes lie in two splits or folds"
    if manifest is None:
        return words
    if not manifest.is_file():
        raise UserError(f"{manifest} does not exist; name a manifest.csv, or leave `manifest` out.")
    known = read_manifest(manifest)
    digests = dict(zip(known["path"], known["sha256"], strict=True))
    for row in table.itertuples():
        if digests.get(row.path) != row.sha256:
            problem = "has other bytes in" if row.path in digests else "is not in"
            raise UserError(f"{row.path} of {split} {problem} {manifest}; run split again.")
    places = {row.path: (row.split, row.fold) for row in table.itertuples()}
    pairs = near_duplicates(known[known["path"].isin(places.keys())], near_bits)
    for one, other, bits in zip(pairs["path_a"], pairs["path_b"], pairs["bits"], strict=True):
        if places[one] != places[other]:
            raise UserError(
                f"{one} and {other} show the same picture ({bits} bits apart) but are in different splits or folds; "
                "run split again, or put them together."
            )
    return f"{words}\nno near-duplicates of up to {near_bits} bits do, and all files are those of {manifest}"


@dataclass
class Arguments:
    """Keys of the command."""

    split: Path = Path("artifacts/split/split.csv")
    manifest: Path | None = None
    near_bits: int = -1


def main() -> None:
    """Check the split that the command line names."""
    with exit_on_user_error():
        arguments = read_arguments(Arguments, __doc__)
        print(check(arguments.split, arguments.manifest, arguments.near_bits), flush=True)


if __name__ == "__main__":
    main()
