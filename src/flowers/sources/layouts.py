"""Which files below a folder belong to which class, and to which split where they came divided.

Class folders lie in the folder itself, or in its parts (``train``, ``val``, ``test`` and their usual spellings), or in
the parts of the only folder in it. Files are listed here, not read.
"""

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from PIL import Image

from flowers.errors import UserError, listed, readable, some, suggestion
from flowers.sources.photograph import FORMATS

TABLE = "table"
LAYOUTS = ("auto", "classes", "divided", TABLE)
"""Values of `data.layout`."""
NAMES = yaml.safe_load(Path(__file__).with_name("names.yaml").read_text(encoding="utf-8"))
"""What people, systems and published data sets call files, folders and columns, in lower case."""
SPLIT_WORDS: dict[str, str] = {word: split for split, words in NAMES["splits"].items() for word in words}
"""What published data sets call the three splits."""
_WORDS = "|".join(sorted(SPLIT_WORDS, reverse=True))
_PART = re.compile(rf"(.+[ _-])?({_WORDS})([ _-]?(?:set|data|images|imgs|photos|split))?([ _-]?\d+)?([ _-].+)?")
_DEPTH = 3
"""Through so many folders that hold nothing but one folder parts are looked for."""


@dataclass(frozen=True)
class Listed:
    """A file that may be a photograph."""

    path: str
    """Relative to the root, with slashes."""
    label: str
    split: str = ""
    """`train`, `val` or `test`; empty where the data set did not come divided."""
    reason: str = ""
    """Why the file must not even be opened; empty where it may be."""


@dataclass
class Listing:
    """What lies below a folder."""

    files: list[Listed] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What a person should know of it, a line each: how it was understood, and what was left out."""


def list_folders(root: Path, layout: str = "auto", key: str = "data.layout") -> Listing:
    """List the files of a folder of class folders, or of one that is divided into parts with class folders.

    Hidden names, those that systems leave behind and what lies beside the class folders are passed over. Folders inside
    a class folder belong to the class. Links are followed where they lead out of `root`. Names of classes are brought
    to one Unicode form (NFC): macOS writes another one than people type.

    A folder counts as divided where one of the folders with photographs in it is called ``train`` and has class folders
    in it, and either all others are parts too (or there are none), or another part has some of the same class folders.
    The names are those of :data:`SPLIT_WORDS`, also with ``_set`` or the like behind, and the same words in front.

    Args:
        root: The folder.
        layout: `auto`: as it looks; `classes`: each folder in it is a class, whatever its name; `divided`: it is
            divided, whatever else lies there.
        key: What a person gives `layout` with.

    Raises:
        UserError: There is no such folder or layout, it can be understood in two ways, holds nothing in class folders,
            or two classes differ only in capital letters or blanks.
    """
    if _is_archive(root.name) and root.is_file():
        raise UserError(f"{root} is an archive: unpack it, and name the folder that holds a folder for each class.")
    if not root.is_dir():
        problem = "is not a folder" if root.exists() else "does not exist"
        raise UserError(f"{root} {problem}: name the folder that holds one folder of photographs per class.")
    if layout not in LAYOUTS[:-1]:
        raise UserError(f"{key}='{layout}': {suggestion(layout, LAYOUTS[:-1])}")
    parts, others = ({}, []) if layout == "classes" else _find_parts(root, layout == "divided", key)
    listing = _list_parts(root, parts, others, key) if parts else _list_classes(root, root)
    if not listing.files:
        raise _nothing_in_class_folders(root)
    check_names(str(root), (each.label for each in listing.files))
    return Listing(listing.files, [readable(note) for note in listing.notes])


def _list_classes(root: Path, folder: Path, split: str = "") -> Listing:
    """List the files in the class folders of a folder, and note what is empty or lies beside them."""
    entries, inside = _visible(folder), (root.resolve(), folder.resolve())
    results = [entry for entry in entries if _holds_results(entry)]
    files = {entry: list(_files(entry, inside)) for entry in _folders(folder) if entry not in results}
    names = Counter(class_name(entry.name) for entry in files)
    listing = Listing()
    below = defaultdict(set)
    for entry, found in files.items():
        for path, reason in found:
            listing.files.append(Listed(path.relative_to(root).as_posix(), class_name(entry.name), split, reason))
            below[class_name(entry.name)].add(path.relative_to(entry).parts[:-1][:1])
    shared = set.intersection(*below.values()) if len(below) > 1 else set()
    if len(shared) > 1 and all(() not in each for each in below.values()):
        listing.notes.append(
            f"each class folder in {folder} has the folders {some(sorted(name for (name,) in shared))} in it, whose "
            "photographs count to it; if those are the classes, put each of them into one folder"
        )
    loose = [entry.name for entry in entries if entry not in files and entry not in results]
    for what, some_of in (
        ("empty class folders", [entry.name for entry, found in files.items() if not found]),
        ("folders of one name in two Unicode forms, taken for one class,", [name for name in names if names[name] > 1]),
        ("beside the class folders and left out", [name for name in loose if is_image(name) or _is_archive(name)]),
        ("folders with results of flowers, left out,", [entry.name for entry in results]),
    ):
        if some_of:
            listing.notes.append(f"{what} in {folder}: {some(some_of)}")
    return listing


def _list_parts(root: Path, parts: dict[Path, str], others: list[Path], key: str) -> Listing:
    """List the files in the class folders of the parts that a data set is divided into."""
    of_part = {folder: _list_classes(root, folder, split) for folder, split in parts.items()}
    check_names(str(root), (each.label for part in of_part.values() for each in part.files))
    trained = {each.label for folder, part in of_part.items() if parts[folder] == "train" for each in part.files}
    names = [f"{split} ({folder.relative_to(root).as_posix()})" for folder, split in parts.items()]
    whole = Listing(notes=[f"{root} is divided already, and used so: {', '.join(names)}; else: {key}=classes"])
    for folder, part in of_part.items():
        if trained.isdisjoint(each.label for each in part.files):
            whole.notes.append(
                f"{folder} has no class of the training, so it is left out as unlabelled; a trained model answers for "
                f"it: flowers predict model=OUT photos={folder}"
            )
        else:
            whole.files += part.files
            whole.notes += part.notes
    if others:
        whole.notes.append(f"beside the parts and left out: {some([str(each) for each in others])}")
    return whole


def _find_parts(root: Path, insist: bool, key: str) -> tuple[dict[Path, str], list[Path]]:
    """Find the folders of the parts that a data set is divided into.

    Args:
        root: The folder.
        insist: Whether it is divided for certain.
        key: What a person says so with.

    Returns:
        The split of each part, and the other folders with photographs; none if it is not divided.

    Raises:
        UserError: If it may be divided, or may not.
    """
    folder, named, others = root, dict[Path, str](), list[Path]()
    for _ in range(_DEPTH):
        holding = _folders_with_photographs(folder)
        # By what stands around: `seg_train` and `seg_test` are parts, a bullet train, a train station and a crash test
        # are not.
        groups: dict[tuple[str | None, str | None], dict[Path, str]] = defaultdict(dict)
        for each in holding:
            if match := _PART.fullmatch(each.name.casefold()):
                groups[match[1], match[5]][each] = SPLIT_WORDS[match[2]]
        parts = [group for (_, behind), group in groups.items() if behind is None or len(group) > 1]
        named = max(parts, key=lambda group: ("train" in group.values(), len(group)), default={})
        others = [each for each in holding if each not in named]
        if named or len(holding) != 1:
            break
        folder = holding[0]
    named = {_unwrapped(each): split for each, split in named.items()}
    classes = {each: {class_name(inner.name) for inner in _folders_with_photographs(each)} for each in named}
    trained = set[str]().union(*(classes[each] for each, split in named.items() if split == "train"))
    shared = any(trained & classes[each] for each, split in named.items() if split != "train")
    if trained and (shared or insist or not others):
        order = list(SPLIT_WORDS.values())
        return dict(sorted(named.items(), key=lambda part: order.index(part[1]))), others
    if insist:
        raise UserError(
            f"{key} is divided, but {root} has no folder train with class folders in it: put each class into a "
            f"folder of its own there, or set {key}=classes."
        )
    names = listed(sorted(each.name for each in named)) if named else ""
    if "train" not in named.values() and len(named) > 1 and set.intersection(*classes.values()):
        raise UserError(
            f"{folder} holds {names} with the same folders in them, as a data set that is divided does, but no train: "
            f"call that part so, or say with {key}=classes that these are the classes."
        )
    if "train" not in named.values() or (set(named.values()) == {"train"} and not trained):
        return {}, []
    if not trained:
        raise UserError(
            f"{folder} holds {names}, as a data set that is divided does, but no class folders in them: put each class "
            "into a folder of its own in each, give the labels in a table (data=table data.table=FILE "
            f"data.root={folder}), or say with {key}=classes that these are the classes."
        )
    raise UserError(
        f"{folder} holds {names} beside {some(sorted(each.name for each in others))}, so it may be divided already or "
        f"have a class in each folder: say which with {key}=divided or {key}=classes, or name one of them."
    )


def _unwrapped(part: Path) -> Path:
    """Go into the only folder of a part where class folders lie in it: ``seg_train/seg_train/forest``."""
    inner = _folders_with_photographs(part)
    return inner[0] if len(inner) == 1 and _folders_with_photographs(inner[0]) else part


def _nothing_in_class_folders(root: Path) -> UserError:
    """Word what to do with a folder without anything in class folders."""
    names = [entry.name for entry in _visible(root)]
    images = [name for name in names if is_image(name)]
    archives = [name for name in names if _is_archive(name)]
    tables = [root / name for name in names if name.lower().endswith((".csv", ".tsv"))]
    said = f"{root} holds no photographs in class folders"
    if archives and not images:
        return UserError(f"{said}, but {some(archives)}: unpack that, and name the folder that it makes.")
    table = f"data=table data.table={tables[0] if tables else 'FILE'} data.root={root}"
    return UserError(
        f"{said}{f', but {some(images)} side by side' if images else ''}: put each class into a folder of its own "
        f"there (or in train, val and test there), or give the labels in a table ({table})."
    )


def check_names(where: str, labels: Iterable[str]) -> None:
    """Refuse names of classes that a person would take for the same.

    Args:
        where: What has them, for the error.
        labels: One for each photograph.

    Raises:
        UserError: Naming two of them.
    """
    alike = defaultdict(set)
    for label in set(labels):
        alike[" ".join(label.casefold().split())].add(label)
    for names in alike.values():
        if len(names) > 1:
            one, other = sorted(names)[:2]
            raise UserError(
                f"{where} has the classes '{one}' and '{other}', which differ only in capital letters or blanks: "
                "give them the same name if they are one class, else names that differ in more."
            )


def class_name(text: str) -> str:
    """Bring the name of a class to one Unicode form."""
    return unicodedata.normalize("NFC", text)


def files_below(root: Path) -> Iterator[tuple[Path, str]]:
    """Yield every visible file below a folder, with the reason where it must not even be opened."""
    return _files(root, (root.resolve(),), top=True)


def _files(entry: Path, inside: tuple[Path, ...], top: bool = False) -> Iterator[tuple[Path, str]]:
    """Yield a file, or those below a folder; a link to a folder is followed where it leads out of all in `inside`."""
    is_link = entry.is_symlink() and not top
    if not os.path.isdir(entry):  # noqa: PTH112
        if os.path.isfile(entry):  # noqa: PTH113
            yield entry, "an archive: unpack it" if _is_archive(entry.name) else ""
        else:
            yield entry, "a link that leads nowhere" if entry.is_symlink() else "not a regular file"
        return
    if is_link:
        target = entry.resolve()
        if any(target.is_relative_to(each) or each.is_relative_to(target) for each in inside):
            yield entry, "a link to a folder"  # could lead in circles
            return
        inside = (*inside, target)
    if not top and _holds_results(entry):
        yield entry, "a folder with results of flowers"
        return
    try:
        entries = _visible(entry)
    except OSError as error:
        yield entry, f"the folder cannot be listed: {error.strerror}"
        return
    for each in entries:
        yield from _files(each, inside)


def _visible(folder: Path) -> list[Path]:
    """List what a person put into a folder."""
    names = (entry for entry in sorted(folder.iterdir()) if entry.name.lower() not in NAMES["system"])
    # A photograph that is still in iCloud leaves .NAME.icloud here.
    return [entry for entry in names if not entry.name.startswith(".") or entry.name.endswith(".icloud")]


def _folders(folder: Path) -> list[Path]:
    """List the folders in a folder."""
    return [entry for entry in _visible(folder) if os.path.isdir(entry)]  # noqa: PTH112 - Path.is_dir may raise


def _holds_results(folder: Path) -> bool:
    """Tell whether a training or an evaluation has written into a folder; its figures are no photographs."""
    return any((folder / name).is_file() for name in ("run.json", "metrics.json"))


def _folders_with_photographs(folder: Path) -> list[Path]:
    """List the folders in a folder below which there is a file that may be a photograph by its name."""
    inside = (folder.resolve(),)
    return [each for each in _folders(folder) if any(is_image(path.name, True) for path, _ in _files(each, inside))]


def is_image(name: str, bare: bool = False) -> bool:
    """Say whether a file is called like a photograph; `bare`: or has no extension at all, as downloads may have."""
    extension = Path(name).suffix.lower()
    return Image.registered_extensions().get(extension) in FORMATS or (bare and not extension)


def _is_archive(name: str) -> bool:
    return name.lower().endswith(tuple(NAMES["archives"]))
