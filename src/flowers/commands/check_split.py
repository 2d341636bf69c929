"""Check a split for leaks: ``flowers check_split split=artifacts/split/split.csv manifest=MANIFEST near_bits=90``.

Fails, with exit code 2, where a group or the same bytes lie in two splits or folds. With a manifest, it fails also
where near-duplicates do, or where the split names a photograph that the manifest does not know, or has other bytes of.
``photos=DIR``, where they lie, has it look for cropped copies too.

``model=DIR`` also lists the photographs that look alike to a trained network and lie in different splits: other shots
of one scene, which no hash finds. It is a list to look at, and fails nothing. ``photos=DIR`` says where the photographs
lie now, if they are no longer where they were when it was trained; ``device=cpu`` or ``device=gpu`` where its network
runs.
"""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from flowers.config.cli import exit_on_user_error, read_arguments
from flowers.curation.duplicates import near_duplicates, similar_features
from flowers.curation.manifest import read_manifest
from flowers.curation.split_table import SPLITS, read_splits
from flowers.errors import UserError
from flowers.models.inference import predict_logits
from flowers.models.trained import open_model


def check(split: Path, manifest: Path | None, near_bits: int, photos: Path | None = None) -> str:
    """Check a split.

    Args:
        split: A ``split.csv``, made by the stage or by hand, or a folder with one.
        manifest: The manifest of its photographs; None: what the split says of itself is all that is checked.
        near_bits: As ``data.split.near_bits``.
        photos: Folder of the photographs, which cropped copies are looked for in; None: they are not.

    Returns:
        What was found, in words.

    Raises:
        UserError: If something leaks; it names the photographs.
    """
    split = split / "split.csv" if split.is_dir() else split
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
            raise UserError(f"{row.path} of {split} {problem} {manifest}; name the manifest it was made from.")
    places = {row.path: (row.split, row.fold) for row in table.itertuples()}
    pairs = near_duplicates(known[known["path"].isin(places.keys())], near_bits, photos)
    for one, other, bits in zip(pairs["path_a"], pairs["path_b"], pairs["bits"], strict=True):
        if places[one] != places[other]:
            raise UserError(
                f"{one} and {other} show the same picture ({bits} bits apart) but are in different splits or folds; "
                "put them together in one, or have them divided anew."
            )
    return f"{words}\nno near-duplicates of up to {near_bits} bits do, and all files are those of {manifest}"


def list_similar(
    split: Path, model_dir: Path, least_cosine: float, device: str | None = None, photos: Path | None = None
) -> str:
    """List pairs of photographs that look alike to a network and lie in different splits, the most similar first.

    Args:
        split: A ``split.csv`` of the photographs that the model was made with.
        model_dir: A folder that ``train`` wrote; the better it knows flowers, the better the list.
        least_cosine: Of what its head is given, in (0, 1].
        device: Where its network goes, see :func:`flowers.models.trained.open_model`.
        photos: Where the photographs lie now; None: where they lay when the model was trained.

    Raises:
        UserError: If the split or the model cannot be read, or a photograph is gone.
    """
    if not 0 < least_cosine <= 1:
        raise UserError(f"least_cosine={least_cosine} must be above 0 and at most 1; 0.92 is a good beginning.")
    table, model = read_splits(split), open_model(model_dir, device=device)
    pixels = model.pixels(model.photographs(table, photos), table)
    pairs = similar_features(predict_logits(model.net, pixels, table["path"].tolist()).features, least_cosine)
    places, paths = table["split"].to_numpy(), table["path"].to_numpy()
    torn = [
        f"{cosine:.3f}  {paths[one]} ({places[one]}) and {paths[other]} ({places[other]})"
        for one, other, cosine in zip(pairs["row_a"], pairs["row_b"], pairs["cosine"], strict=True)
        if places[one] != places[other]
    ]
    return "\n".join([f"{len(torn)} pairs in different splits look alike to {model_dir}", *torn])


@dataclass
class Arguments:
    """Keys of the command."""

    split: Path = Path("artifacts/split/split.csv")
    manifest: Path | None = None
    near_bits: int = -1
    model: Path | None = None
    least_cosine: float = 0.92
    device: str | None = None
    photos: Path | None = None


def main() -> None:
    """Check the split that the command line names."""
    with exit_on_user_error():
        arguments = read_arguments(Arguments)
        print(check(arguments.split, arguments.manifest, arguments.near_bits, arguments.photos), flush=True)
        if arguments.model is not None:
            how = (arguments.least_cosine, arguments.device, arguments.photos)
            print(list_similar(arguments.split, arguments.model, *how), flush=True)
