"""From a folder or a source to photographs with a split, made on the way where there is none yet."""

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock
from omegaconf import OmegaConf

from flowers.config.compose import compose_config, find_in_conf, find_source, names_in, read_data, read_settings
from flowers.config.provenance import code_digest
from flowers.config.schema import Data, Settings
from flowers.curation.duplicates import COLUMNS, near_duplicates
from flowers.curation.labels import apply_label_edits, read_label_edits
from flowers.curation.manifest import HASH_CELLS, read_manifest, scan, summarise
from flowers.curation.split_table import SPLITS, check_splits, read_splits, read_table, write_table
from flowers.curation.splits import assign_splits
from flowers.errors import UserError, missing, readable, suggestion
from flowers.sources.label_table import list_table
from flowers.sources.layouts import LAYOUTS, TABLE, Listing, list_folders
from flowers.sources.photograph import decoder_version
from flowers.sources.published import OFFICIAL


def obtain(root: Path, source: dict[str, Any] | None) -> Path:
    """Have a source fill a folder beside `root` that is named after its settings, unless it is there already.

    Args:
        root: Its name begins the folder's.
        source: What `data.source` is: called once, it leaves either a whole folder or none.

    Returns:
        The filled folder; `root` if there is no source.

    Raises:
        UserError: If the source is none, or has no photographs.
    """
    if source is None:
        return root
    if root.name in ("", ".."):
        raise UserError(
            f"data.root={root} has no name for the folder that is filled; give one, as in {root / 'photos'}."
        )
    fill = find_source(source)
    folder = root.with_name(f"{root.name}-{source_digest(source)[:8]}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            fill(folder)
    return folder


def source_digest(source: dict[str, Any]) -> str:
    """Digest all that the photographs of a source depend on: its settings and code."""
    return hashlib.sha256((json.dumps(source, sort_keys=True) + code_digest("sources")).encode()).hexdigest()


def list_photographs(root: Path, data: Data) -> Listing:
    """List the files of a data set with their labels.

    Args:
        root: The folder that they are in.
        data: How it is laid out: `layout`, `table`, `table_columns`.

    Raises:
        UserError: It is not there, is not laid out so, or cannot be understood.
    """
    if not root.exists():
        raise UserError(f"data.root={missing(root)}: name the folder of the photographs.")
    if data.layout not in LAYOUTS:
        raise UserError(f"data.layout='{data.layout}': {suggestion(data.layout, LAYOUTS)}")
    if data.table is None:
        if data.table_columns is not None or data.layout == TABLE:
            raise UserError("the table of labels is not named: give data.table=FILE.")
        return list_folders(root, data.layout)
    if data.layout not in ("auto", TABLE):
        raise UserError(f"data.layout={data.layout} is about folders, but labels come from data.table: leave one out.")
    return list_table(root, Path(data.table), data.table_columns)


def remembered_scan(
    root: Path, strict: bool, cache_dir: Path, listing: Listing | None = None, min_side_px: int = 1
) -> tuple[pd.DataFrame, Path]:
    """Take a folder in, or reuse what was found when no file's size or time of change has altered since.

    Args:
        root: A folder of photographs.
        strict: Refuse the folder if a file in it is refused.
        cache_dir: Where the manifest is remembered.
        listing: As in :func:`flowers.curation.manifest.scan`, and so `min_side_px`.
        min_side_px: The shortest side that a photograph may have.

    Returns:
        The manifest, and the file that it is remembered in.
    """
    reader = [*decoder_version(), HASH_CELLS, min_side_px]  # with another one, another manifest would be found
    listing = listing or list_folders(root)
    files = sorted((*astuple(file), _state(root / file.path)) for file in listing.files)
    key = hashlib.sha256(json.dumps([str(root.resolve()), strict, reader, files]).encode()).hexdigest()[:16]
    remembered = cache_dir / f"manifest-{key}.csv"
    with contextlib.suppress(UserError):  # missing or damaged: made anew
        return read_manifest(remembered), remembered
    manifest = scan(root, strict, listing=listing, min_side_px=min_side_px)
    write_table(manifest, remembered)
    return manifest, remembered


def take_in(root: Path, data: Data) -> tuple[pd.DataFrame, Path, list[str]]:
    """List and inspect a data set's files: the manifest, the file that it is remembered in, and notes for a person."""
    listing = list_photographs(root, data)
    return *remembered_scan(root, data.strict, Path(data.cache_dir), listing, data.min_side_px), listing.notes


def refused_files(data: Data, root: Path) -> pd.DataFrame:
    """List path, label and reason of the files below `root` that intake refused; none if the split was made earlier."""
    if data.split_csv is not None:
        return pd.DataFrame()
    manifest, *_ = take_in(root, data)
    return manifest.loc[manifest["status"] == "refused", ["path", "label", "reason"]]


def _state(file: Path) -> tuple[int, int]:
    """Tell a file's size and time of change; of one that is not there, nothing."""
    try:
        found = file.stat()
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


def remembered_pairs(manifest: pd.DataFrame, data: Data, root: Path) -> pd.DataFrame:
    """Find near-duplicates, or reuse what was found in the same photographs, if there is a place to remember it in."""
    usable = manifest.loc[manifest["status"] == "ok", ["path", "sha256"]].to_numpy().tolist()
    key = json.dumps([usable, data.split.near_bits, code_digest("curation", "sources")]).encode()
    remembered = Path(data.cache_dir) / f"pairs-{hashlib.sha256(key).hexdigest()[:16]}.csv"
    with contextlib.suppress(UserError):  # missing or damaged: made anew
        return read_table(remembered, COLUMNS, "run split again")
    pairs = near_duplicates(manifest, data.split.near_bits, root)
    if remembered.parent.is_dir():
        write_table(pairs, remembered)
    return pairs


def divide(manifest: pd.DataFrame, data: Data, root: Path) -> tuple[pd.DataFrame, str]:
    """Assign every usable photograph to a split, each picture with its near-duplicates, and carry decisions out.

    A decision changes or removes its own row alone: photographs are divided by the labels that they came with, so that
    cleaning moves nothing between the training and the test.

    Args:
        manifest: What :func:`flowers.curation.manifest.scan` returned.
        data: How to divide, and where the decisions are.
        root: Folder that paths are relative to.

    Returns:
        The table of :func:`flowers.curation.splits.assign_splits`; and what was found, in words.

    Raises:
        UserError: A setting is out of range, a class has too few photographs for the splits, or a decision fits none.
    """
    pairs = remembered_pairs(manifest, data, root)
    published = None
    if "split" in manifest and data.split.official in (None, 1):  # it came divided in one way
        if data.split.per_class is None:
            published = dict(zip(manifest["path"], manifest["split"], strict=True))
    elif data.split.official is not None:
        published = read_published(root, data.split.official)
    table = assign_splits(manifest, data.split, zip(pairs["sha256_a"], pairs["sha256_b"], strict=True), published)
    words = describe(table)
    if published is not None:
        words = "\n".join([words, *_describe_published(manifest, table, published)])
    elif "split" in manifest:
        words += "\nthe data set's own division is not used, as data.split.per_class asks for another"
    edits = {} if data.decisions is None else read_label_edits(find_in_conf(Path(data.decisions)))
    after = apply_label_edits(manifest, edits).set_index("path")
    table["label"] = table["path"].map(after["label"])
    table = table[table["path"].map(after["status"]) == "ok"].reset_index(drop=True)
    check_splits(table)
    return table, f"{summarise(after.reset_index())}\n{words}"


def _describe_published(manifest: pd.DataFrame, table: pd.DataFrame, published: Mapping[str, str]) -> list[str]:
    """Word what became of a published division: a line each on what was made, left out, or is missing in it."""
    usable = manifest[manifest["status"] == "ok"]
    places, trained = usable["path"].map(published), set(table["label"])
    lines = [
        f"the published division has no {name}: {(table['split'] == name).sum()} of its training photographs are kept "
        f"for it (data.split.{name}_frac)"
        for name in SPLITS[1:]
        if (table["split"] == name).any() and not (places == name).any()
    ]
    unknown = usable.loc[~usable["label"].isin(trained), "label"].value_counts().sort_index()
    if len(unknown):
        counts = ", ".join(f"{label} {count}" for label, count in unknown.items())
        lines.append(f"left out, as the training has no photographs of these classes: {counts}")
    if left_out := len(usable) - int(unknown.sum()) - len(table):
        lines.append(f"{left_out} photographs left out: the published division has the same pictures in another split")
    for name in SPLITS[1:]:
        here = set(table.loc[table["split"] == name, "label"])
        if here and (missing := sorted(trained - here)):
            lines.append(f"{name} has no photographs of {', '.join(missing)}")
    return lines


def read_published(root: Path, number: int) -> dict[str, str]:
    """Read one of the divisions that a data set was published with.

    Args:
        root: The folder of its class folders.
        number: Which, from 1.

    Returns:
        Path to train, val or test.

    Raises:
        UserError: If there is none of that number.
    """
    file, column = root / OFFICIAL, f"official_{number}"
    if not file.is_file():
        raise UserError(f"{file} does not exist, so there is no published division: set data.split.official to null.")
    table = read_table(file, ["path"], "get the data set anew")
    if column not in table:
        known = ", ".join(name.removeprefix("official_") for name in table.columns if name != "path")
        raise UserError(f"data.split.official is {number}, but {file} has {known}: choose one of them.")
    return dict(zip(table["path"], table[column], strict=True))


def describe(table: pd.DataFrame, most_conflicts: int = 10) -> str:
    """Word the groups of a split for a person.

    Args:
        table: What :func:`flowers.curation.splits.assign_splits` returned.
        most_conflicts: How many groups with different labels are listed.

    Returns:
        A line on near-duplicates, and one for each group whose labels differ.
    """
    groups = table.groupby("group")["sha256"].agg(["nunique", "size"])
    near, copied = groups[groups["nunique"] > 1], groups[groups["size"] > groups["nunique"]]
    lines = [
        f"{len(near)} groups of near-duplicates ({near['size'].sum()} photographs) and {len(copied)} of equal files, "
        "each kept in one split"
    ]
    torn = table[table.groupby("group")["label"].transform("nunique") > 1].sort_values("path").groupby("group")["path"]
    told = [", ".join(paths) for _, paths in torn]
    if len(told) > most_conflicts:
        told[most_conflicts:] = [f"{len(told) - most_conflicts} groups more"]
    lines += [f"the same picture under different labels: {words}" for words in told]
    return "\n".join(lines)


def find_photographs(data: Data) -> tuple[Path, pd.DataFrame, str]:
    """Find the photographs and their split, or make both as the stages ``download`` and ``split`` would.

    Returns:
        The folder that paths are relative to, the rows of the split, and what was found, in words: none if the split
        was made earlier.

    Raises:
        UserError: If the photographs or the split cannot be used.
    """
    if data.split_csv is not None:
        remedy = "correct it, or name another split.csv with data.split_csv"
        return Path(data.root), read_splits(Path(data.split_csv), remedy), ""
    root = obtain(Path(data.root), data.source)
    manifest, file, notes = take_in(root, data)
    split, summary = divide(manifest, data, root)
    summary = "\n".join([summary, *notes])
    if (manifest["status"] == "refused").any():
        summary += f"\nmanifest of all files: {file}"
    return root, split, f"{root}: {summary}"


def photographs_of(settings: Settings) -> tuple[Path, pd.DataFrame]:
    """Find the photographs that a configuration means, and their split, and say what intake refused.

    Returns:
        The folder that paths are relative to, and the rows of the split.

    Raises:
        UserError: If the photographs or the split cannot be used.
    """
    root, split, summary = find_photographs(read_data(settings))
    if summary and settings.progress != "none":
        print(summary, flush=True)
    return root, split


def find_folder(data: str, key: str) -> tuple[str, Path, Data | None]:
    """Find, and obtain where it is not here yet, what a user calls other photographs.

    Args:
        data: A name of ``conf/data``, or a folder (`./NAME` where it is called like one of those).
        key: What it was given with.

    Returns:
        The data set's name, its folder, and what its configuration says of it, if it has one.

    Raises:
        UserError: If there is neither such a data set nor such a folder.
    """
    names = names_in("data")
    if data in names:
        composed = compose_config([f"data={data}", "name=shift", "out_dir=."])  # what only a command has
        if OmegaConf.is_missing(composed.data, "root"):
            raise UserError(f"{key}={data} names no photographs by itself: name their folder with {key}=DIR.")
        settings = read_data(read_settings(composed))
        return data, obtain(Path(settings.root), settings.source), settings
    if Path(data).is_dir():
        name = Path(data).resolve().name
        if readable(name) != name:
            raise UserError(f"{key}={readable(data)} is not UTF-8: rename that folder.")
        return name, Path(data), None
    raise UserError(f"{key}={data} is neither a folder nor a data set of conf/data: {suggestion(data, names)}")
