"""A trained model on another data set: on the classes that both have, whatever each calls them."""

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from flowers.config.compose import CONF_DIR
from flowers.curation.prepare import find_folder, list_photographs, remembered_scan
from flowers.errors import UserError
from flowers.models.trained import TrainedModel
from flowers.sources.layouts import list_folders


def find_photographs(
    model: TrainedModel, split: pd.DataFrame, data: str, layout: str = "auto"
) -> tuple[Path, pd.DataFrame, dict[str, Any]]:
    """Get the photographs of a data set, and keep those that the model can be fairly tested on.

    Args:
        model: The model.
        split: The photographs that it was trained, chosen and tested with.
        data: A name of ``conf/data``, whose photographs are then obtained as a training does; or a folder of class
            folders (`./NAME` where it is called like one of those).
        layout: How its folders are understood, see :func:`flowers.sources.layouts.list_folders`; `auto`: as the data
            set says of itself, or as they look.

    Returns:
        The folder that the paths are relative to; `path`, `label` (as the model says it), `sha256` and `group` (equal
        files) of at least one photograph; and what ``metrics.json`` says of them:

        - ``data``: the data set's name.
        - ``classes``: those of the model that have photographs here.
        - ``other_classes``: classes of the data set that the model does not know, left out.
        - ``unmet_classes``: classes of the model without a photograph in the data set.
        - ``trained_on``: photographs left out, as the model was trained or chosen with the same bytes.
        - ``refused``: files left out, as they are no usable photographs, with the reason.

    Raises:
        UserError: If there is no such data set, or nothing in it that the model knows.
    """
    name, root, known_as = find_folder(data, "data")
    if known_as is None or layout != "auto":
        listing = list_folders(root, layout, "layout")
    else:
        listing = list_photographs(root, known_as)
    strict = known_as is not None and known_as.strict
    manifest, _ = remembered_scan(root, strict, Path(model.settings.data.cache_dir), listing, model.min_side_px)
    for note in listing.notes:
        print(f"flowers: {note}", file=sys.stderr)
    if "split" in manifest:
        print(
            "flowers: the photographs of all its splits are answered for; name one folder for that alone",
            file=sys.stderr,
        )
    ok = manifest[manifest["status"] == "ok"]
    refused = manifest[manifest["status"] == "refused"]
    meant = match_classes(model.classes, sorted(ok["label"].unique()), read_class_names(CLASS_NAMES))
    seen = set(split.loc[split["split"] != "test", "sha256"])
    known = ok[ok["label"].isin(meant)]
    leaked = known["sha256"].isin(seen)
    table = known.loc[~leaked, ["path", "label", "sha256"]].reset_index(drop=True)
    table = table.assign(label=table["label"].map(meant), group=table["sha256"])
    if known.empty:
        raise UserError(
            f"{root} has no class of the model ({', '.join(model.classes)}), but "
            f"{', '.join(sorted(set(ok['label'])))}; say in conf/{CLASS_NAMES.name} which mean the same."
        )
    if table.empty:
        raise UserError(f"{root} holds nothing but photographs that {model.folder} was trained on; name other ones.")
    shared = sorted(table["label"].unique())
    notes = {
        "data": name,
        "classes": shared,
        "other_classes": sorted(set(ok["label"]) - meant.keys()),
        "unmet_classes": sorted(set(model.classes) - set(shared)),
        "trained_on": known.loc[leaked, "path"].tolist(),
        "refused": dict(zip(refused["path"], refused["reason"], strict=True)),
    }
    return root, table, notes


CLASS_NAMES = CONF_DIR / "class_names.yaml"


def match_classes(known: Sequence[str], others: Sequence[str], synonyms: Mapping[str, str]) -> dict[str, str]:
    """Match class names that mean the same.

    Args:
        known: The model's classes.
        others: Those of another data set.
        synonyms: From a plain name to the one that stands for it.

    Returns:
        For each of the others that the model knows, what the model calls it; several may be one class of the model.

    Raises:
        UserError: If two classes of the model could be meant.
    """
    meanings = {name: synonyms.get(plain_name(name), plain_name(name)) for name in (*known, *others)}
    matched: dict[str, str] = {}
    for name in others:
        candidates = [name] if name in known else [each for each in known if meanings[each] == meanings[name]]
        if len(candidates) > 1:
            raise UserError(
                f"class {name} could be {' or '.join(candidates)} of the model; rename its folder to one of these, "
                f"or take them apart in conf/{CLASS_NAMES.name}."
            )
        if candidates:
            matched[name] = candidates[0]
    return matched


def plain_name(name: str) -> str:
    """Write a class name without case, punctuation and the plural of its last word."""
    words = re.sub(r"[\W_]+", " ", re.sub(r"['’]", "", name.casefold())).split()
    if words and len(words[-1]) > 3:
        last = words[-1]
        if last.endswith("ies"):
            words[-1] = f"{last[:-3]}y"
        elif last.endswith("s") and not last.endswith(("ss", "us", "is")):
            words[-1] = last[:-1]
    return " ".join(words)


def read_class_names(path: Path) -> dict[str, str]:
    """Read which names mean the same.

    Args:
        path: YAML: a name, and the list of others that mean the same.

    Returns:
        From the plain form of each name (see :func:`plain_name`) to that of the first.

    Raises:
        UserError: If the file is no such mapping, or a name stands for two flowers.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, OSError) as error:
        raise UserError(f"{path} cannot be read ({' '.join(str(error).split())}); correct it.") from error
    if not isinstance(content, dict) or not all(isinstance(others, list) for others in content.values()):
        raise UserError(f"{path} must give each name a list of names that mean the same; correct it.")
    meaning: dict[str, str] = {}
    for first, others in content.items():
        plain = plain_name(str(first))
        for each in {plain, *(plain_name(str(other)) for other in others)}:
            if meaning.setdefault(each, plain) != plain:
                raise UserError(f"{path} gives '{each}' two meanings, {meaning[each]} and {plain}; leave one.")
    return meaning
