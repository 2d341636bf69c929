"""Published data sets: downloaded, checked against their digests, and laid out in class folders.

:func:`class_folder_archive` serves any archive that holds class folders; the others know one data set each. A data set
with official splits gets ``official.csv`` beside its class folders: `path` (relative to the root) and columns
`official_1` … with train, val or test.
"""

import shutil
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from flowers.errors import UserError
from flowers.sources.archives import get, read_pin, unpack, whole_folder

OFFICIAL = "official.csv"
"""A data set's own splits, beside its class folders: columns path, official_1, official_2 …"""

_TABLE = Path(__file__).with_name("oxford_species.yaml")
_SPECIES: dict[str, list[str]] = yaml.safe_load(_TABLE.read_text(encoding="utf-8"))
OXFORD17, OXFORD102 = _SPECIES["oxford17"], _SPECIES["oxford102"]
"""Names of the species, by label: the first label is 1."""
OXFORD17_EACH = 80


def folder_name(species: str) -> str:
    """Make a class folder's name from a species' English name: ``colt's foot`` becomes ``colts_foot``."""
    return species.replace("'", "").replace(" ", "_").replace("-", "_")


def class_folder_archive(root: Path, *, archive: dict[str, Any], inner: str | None, downloads_dir: str) -> None:
    """Lay out an archive of class folders, as they are in it.

    Args:
        root: Folder that does not exist yet, or is empty; filled whole or not at all.
        archive: `url`, `md5` or `sha256`, and `bytes` (None: not known) of a tar file, compressed or not.
        inner: The folder in the archive that holds the class folders; None: the top, or where that holds but one
            folder with folders in it, this one. Files beside the class folders, such as a licence, come along.
        downloads_dir: Where downloads are kept.

    Raises:
        UserError: The archive cannot be had, or holds no such folder.
    """
    packed = get(read_pin("data.source.archive", archive), Path(downloads_dir))
    with whole_folder(root) as building:
        unpacked = building / ".unpacked"
        unpack(packed, unpacked)
        top = _find_inner(packed, unpacked, inner)
        for entry in sorted(top.iterdir()):
            entry.replace(building / entry.name)
        shutil.rmtree(unpacked)


def _find_inner(packed: Path, unpacked: Path, inner: str | None) -> Path:
    """Find the folder in an unpacked archive that holds the class folders."""
    top = unpacked / (inner or "")
    if not top.is_dir() or not top.resolve().is_relative_to(unpacked.resolve()):
        raise UserError(f"{packed} holds no folder {inner}; correct data.source.archive or data.source.inner.")
    folders = _folders(top)
    if inner is None and len(folders) == 1 and _folders(folders[0]):
        return folders[0]
    if not folders:
        raise UserError(
            f"{packed} holds no class folders{f' in {inner}' if inner else ''}; set data.source.inner to the folder in "
            "it that has one sub-folder for each class."
        )
    return top


def _folders(folder: Path) -> list[Path]:
    """List sub-folders, without hidden ones and those that macOS adds to an archive."""
    return [each for each in folder.iterdir() if each.is_dir() and not each.name.startswith((".", "__MACOSX"))]


def flower_photos(root: Path, *, archive: dict[str, Any], downloads_dir: str) -> None:
    """Lay out the five classes of TensorFlow's flower photographs.

    Args:
        root: Folder that does not exist yet, or is empty; filled whole or not at all.
        archive: `url`, `md5` and `bytes` of flower_photos.tgz.
        downloads_dir: Where downloads are kept.

    Raises:
        UserError: The archive cannot be had, or is not laid out as it should be.
    """
    class_folder_archive(root, archive=archive, inner="flower_photos", downloads_dir=downloads_dir)


def oxford17(root: Path, *, archive: dict[str, Any], splits: dict[str, Any], downloads_dir: str) -> None:
    """Lay out Oxford's 17 species, 80 photographs each, with their three official splits.

    Source: Nilsback and Zisserman, "A Visual Vocabulary for Flower Classification", CVPR 2006.

    Args:
        root: Folder that does not exist yet, or is empty; filled whole or not at all.
        archive: `url`, `md5` and `bytes` of 17flowers.tgz.
        splits: The same for datasplits.mat.
        downloads_dir: Where downloads are kept.

    Raises:
        UserError: A file cannot be had, or does not fit the others.
    """
    mat = get(read_pin("data.source.splits", splits), Path(downloads_dir))
    packed = get(read_pin("data.source.archive", archive), Path(downloads_dir))
    labels = np.repeat(np.arange(len(OXFORD17)), OXFORD17_EACH)
    official = {
        f"official_{k}": _places(mat, {"train": f"trn{k}", "val": f"val{k}", "test": f"tst{k}"}, len(labels))
        for k in (1, 2, 3)
    }
    _lay_out(root, packed, "image_{:04d}.jpg", [OXFORD17[label] for label in labels], official)


def oxford102(
    root: Path, *, archive: dict[str, Any], labels: dict[str, Any], splits: dict[str, Any], downloads_dir: str
) -> None:
    """Lay out Oxford's 102 species, 40 to 258 photographs each, with their official split.

    Source: Nilsback and Zisserman, "Automated Flower Classification over a Large Number of Classes", ICVGIP 2008. The
    names by label are those of the data set's page.

    Args:
        root: Folder that does not exist yet, or is empty; filled whole or not at all.
        archive: `url`, `md5` and `bytes` of 102flowers.tgz.
        labels: The same for imagelabels.mat.
        splits: The same for setid.mat.
        downloads_dir: Where downloads are kept.

    Raises:
        UserError: A file cannot be had, or does not fit the others.
    """
    labels_mat = get(read_pin("data.source.labels", labels), Path(downloads_dir))
    splits_mat = get(read_pin("data.source.splits", splits), Path(downloads_dir))
    packed = get(read_pin("data.source.archive", archive), Path(downloads_dir))
    numbers = _numbers(labels_mat, "labels")
    if ((numbers < 1) | (numbers > len(OXFORD102))).any():
        raise UserError(f"{labels_mat} has labels outside of 1 to {len(OXFORD102)}; correct data.source.labels.")
    places = _places(splits_mat, {"train": "trnid", "val": "valid", "test": "tstid"}, len(numbers))
    species = [OXFORD102[number - 1] for number in numbers]
    _lay_out(root, packed, "image_{:05d}.jpg", species, {"official_1": places})


def _lay_out(root: Path, packed: Path, pattern: str, species: list[str], official: dict[str, list[str]]) -> None:
    """Move photographs that are numbered from 1 into class folders, and write the official splits."""
    with whole_folder(root) as building:
        unpacked = building / ".unpacked"
        unpack(packed, unpacked)
        found = {path.name for path in unpacked.glob("jpg/[!.]*.jpg")}
        names = [pattern.format(number) for number in range(1, len(species) + 1)]
        if wrong := sorted(found.symmetric_difference(names)):
            problem = "is in the archive without a label" if wrong[0] in found else "has a label but is not there"
            raise UserError(
                f"{packed} does not fit its labels: jpg/{wrong[0]} {problem}; correct the files that data.source names."
            )
        paths = []
        for name, label in zip(names, map(folder_name, species), strict=True):
            (building / label).mkdir(exist_ok=True)
            (unpacked / "jpg" / name).replace(building / label / name)
            paths.append(f"{label}/{name}")
        shutil.rmtree(unpacked)
        table = pd.DataFrame({"path": paths, **official})
        table.sort_values("path").to_csv(building / OFFICIAL, index=False, lineterminator="\n")


def _numbers(mat: Path, key: str) -> np.ndarray:
    """Read a list of whole numbers, shape (N,), from a MATLAB file."""
    try:
        values = loadmat(mat, variable_names=[key])[key]
        numbers = np.asarray(values).ravel().astype(np.int64)
    except KeyError as error:
        raise UserError(f"{mat} has no list '{key}'; correct the file that data.source names.") from error
    except (MatReadError, NotImplementedError, OSError, TypeError, ValueError, zlib.error) as error:
        raise UserError(f"{mat} cannot be read as a MATLAB file ({error}); correct what data.source names.") from error
    return numbers


def _places(mat: Path, keys: dict[str, str], count: int) -> list[str]:
    """Say for each photograph in which split an official division puts it.

    Args:
        mat: Lists of photographs' numbers, from 1.
        keys: Split to list.
        count: Number of photographs.
    """
    places = [""] * count
    for split, key in keys.items():
        for number in _numbers(mat, key).tolist():
            if not 1 <= number <= count or places[number - 1]:
                problem = "twice" if 1 <= number <= count else f"where there are {count} photographs"
                raise UserError(f"{mat} names photograph {number} {problem}; correct data.source.splits.")
            places[number - 1] = split
    if "" in places:
        raise UserError(f"{mat} leaves out photograph {places.index('') + 1}; correct data.source.splits.")
    return places
