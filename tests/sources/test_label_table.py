"""Labels in a table: whatever its columns are called, what it says is taken, or a sentence asks; nothing is decoded."""

import re
import unicodedata
from pathlib import Path

import pytest

from flowers.errors import UserError
from flowers.sources.label_table import list_table
from flowers.sources.layouts import Listing

FILES = ("a.jpg", "b.JPG", "c d.png", "deep/e.jpg")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for file in FILES:
        path = tmp_path / "images" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "images"


def take(root: Path, text: str, columns: list[str] | None = None, encoding: str = "utf-8") -> Listing:
    table = root.parent / "labels.csv"
    table.write_bytes(text.encode(encoding))
    return list_table(root, table, columns)


def labels(listing: Listing) -> dict[str, str]:
    return {file.path: file.label for file in listing.files if not file.reason}


def refusal(root: Path, text: str, columns: list[str] | None = None) -> str:
    with pytest.raises(UserError) as caught:
        take(root, text, columns)
    assert "\n" not in str(caught.value)
    return str(caught.value)


WANTED = {"a.jpg": "daisy", "b.JPG": "rose", "c d.png": "lily of the valley", "deep/e.jpg": "7"}


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize(
    ("file", "label"),
    [
        ("filename", "label"),
        ("file_name", "category"),
        ("Image_ID", "Class"),
        ("image", "species"),
        ("id", "breed"),
        ("path", "target"),
        ("picture", "kind"),
        ("x", "Label"),
    ],
)
def test_columns_are_found(file: str, label: str, separator: str, root: Path) -> None:
    rows = [(file, label), *WANTED.items()]
    text = "\r\n".join(separator.join((one, f'"{other}"')) for one, other in rows)
    assert labels(take(root, text, encoding="utf-8-sig")) == WANTED
    turned = "\n".join(separator.join((f'"{other}"', one)) for one, other in rows)
    assert labels(take(root, turned)) == WANTED
    assert labels(take(root, f"sep={separator}\n{turned}\n\n")) == WANTED


@pytest.mark.parametrize(
    "names",
    [
        ("a", "b", "c d", "e"),
        ("a", "b", "c d", "deep/e"),
        ("A.jpg", "B.jpg", "C D.PNG", "Deep/E.jpg"),
        ("images/a.jpg", "images/b.JPG", "images/c d.png", "images/deep/e.jpg"),
        ("./a.jpg", "./b.JPG", "./c d.png", "./deep/e.jpg"),
        ("../x/a.jpg", "../x/b.JPG", "../x/c d.png", "../x/deep/e.jpg"),
        (r"C:\me\a.jpg", r"C:\me\b.JPG", r"C:\me\c d.png", r"C:\me\deep\e.jpg"),
        ("/k/in/a.jpg", "/k/in/b.JPG", "/k/in/c d.png", "/k/in/deep/e.jpg"),
    ],
)
def test_files_are_found_however_they_are_written(names: tuple[str, ...], root: Path) -> None:
    text = "image_id,label\n" + "".join(f"{one},{label}\n" for one, label in zip(names, WANTED.values(), strict=True))
    listing = take(root, text)
    assert labels(listing) == WANTED
    assert len(listing.notes) == 1
    assert "files are in the column 'image_id', labels in 'label'" in listing.notes[0]


def test_unicode_forms_do_not_matter(root: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "blüte") for form in ("NFC", "NFD"))
    (root / f"{decomposed}.jpg").touch()
    text = f"file,label\n{composed}.jpg,{composed}\na.jpg,{decomposed}\n"
    assert labels(take(root, text)) == {f"{decomposed}.jpg": composed, "a.jpg": composed}


def test_what_is_missing_on_either_side_is_named(root: Path) -> None:
    text = "id,label\na,daisy\nb,rose\nz1,rose\nz2,rose\nz3,rose\nz4,rose\nc d,\na.jpg ,daisy\n"
    with pytest.raises(UserError, match=r"means a\.jpg by 'a' and by 'a\.jpg'"):
        take(root, text)
    listing = take(root, text.replace("a.jpg ,daisy", "a,daisy"))
    assert labels(listing) == {"a.jpg": "daisy", "b.JPG": "rose"}
    assert {file.path: file.reason for file in listing.files if file.reason} == {
        "c d.png": "labels.csv gives it no label",
        **dict.fromkeys(("z1", "z2", "z3", "z4"), "there is no such file"),
    }
    assert listing.notes[1:] == [
        "4 rows without a file: z1, z2, z3 … (4 in all)",
        "1 files without a row, left out: deep/e.jpg",
    ]


def test_a_path_is_not_taken_for_another_one(root: Path) -> None:
    (root / "train").mkdir()
    (root / "train/1.jpg").touch()
    listing = take(root, "file,label\na.jpg,daisy\ntrain/1.jpg,rose\ntest/1.jpg,lily\ntest/a.jpg,lily\n")
    assert labels(listing) == {"a.jpg": "daisy", "train/1.jpg": "rose"}
    (root / "deep/1.jpg").touch()
    assert "may mean deep/1.jpg or train/1.jpg" in refusal(root, "file,label\na,daisy\n1,rose\n")


@pytest.mark.parametrize(
    ("header", "values", "splits"),
    [
        ("split", "train valid TEST train", "train val test train"),
        ("subset", "Training Validation Testing Training", "train val test train"),
        ("is_valid", "False True False True", "train val train val"),
        ("fold_name", "train test train test", "train test train test"),
        ("set", "train train train train", "train train train train"),
        ("photographer", "Ada Ada Bob Bob", "   "),
        ("augmented", "0 1 0 1", "   "),
    ],
)
def test_a_column_of_splits_is_the_published_division(header: str, values: str, splits: str, root: Path) -> None:
    rows = zip(WANTED, values.split(), WANTED.values(), strict=True)
    text = f"file,{header},label\n" + "".join(f"{','.join(row)}\n" for row in rows)
    listing = take(root, text)
    assert [file.split for file in listing.files] == splits.split(" ")
    assert ("divided already" in listing.notes[0]) == bool(splits.strip())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file,label\na.jpg,daisy\nb.jpg,rose\na.jpg,rose\n", "names a.jpg more than once, as 'daisy' and as 'rose'"),
        ("file,label,split\na.jpg,x,train\na.jpg,x,test\n", "more than once, as 'train' and as 'test'"),
        ("file,label,split\na.jpg,daisy,train\nb.jpg,rose,holdout\n", "has 'holdout' in its column split"),
        ("file,label\na.jpg,daisy\nb.jpg,Daisy\n", "'Daisy' and 'daisy', which differ only in capital letters"),
        ("file,label\nx.jpg,daisy\ny.jpg,rose\n", r"no column of .* names a file below .*, which has a.jpg, b.JPG"),
        ("file,label,species\na.jpg,1,daisy\n", r"the label \(label, species\): name the columns with data.table_col"),
        ("file,height,width\na.jpg,1,2\n", r"data\.table_columns=\[FILE,LABEL\], two of: file, height, width"),
        ("file,image,label\na.jpg,b.jpg,daisy\n", r"several columns that name files \(file, image\)"),
        ("file,daisy,rose,lily\na.jpg,1,0,1\nb.jpg,0,1,0\n", "a column of 0 and 1 for each of daisy, rose, lily"),
        ("file,labels\na.jpg,rust\nb.jpg,scab\ne.jpg,rust scab\n", "has 'rust scab' in its column labels: several"),
        ("file,tags\na.jpg,red|round\nb.jpg,red\n", r"has 'red\|round' in its column tags: several labels"),
        ("file,tags\na.jpg,\"['red', 'round']\"\nb.jpg,red\n", "several labels for a photograph"),
        ("a.jpg,daisy\nb.jpg,rose\n", "begins with a row for a.jpg: give it a first line with names"),
        ("file,label,label\na.jpg,1,2\n", "repeats a name in its first line"),
        ("file\na.jpg\n", "lacks two columns"),
        ("", "lacks two columns"),
        ("file,label\n", "has no rows"),
        ("file,label\na.jpg,daisy,red\n", r"has 2 columns, but a row with 3 values \(a.jpg,daisy,red\)"),
    ],
)
def test_what_is_not_clear_is_one_sentence(text: str, said: str, root: Path) -> None:
    assert re.search(said, refusal(root, text))


def test_a_division_that_is_not_whole_is_not_passed_over(root: Path) -> None:
    rows = zip(WANTED, ["train", "train", "", "test"], WANTED.values(), strict=True)
    text = "file,set,label\n" + "".join(f"{','.join(row)}\n" for row in rows)
    assert "'' in its column set, which must say train, val or test" in refusal(root, text)


def test_columns_can_be_named(root: Path) -> None:
    text = "file,label,species\na.jpg,1,daisy\nb.jpg,2,rose\n"
    assert labels(take(root, text, ["file", "species"])) == {"a.jpg": "daisy", "b.JPG": "rose"}
    assert labels(take(root, text, ["file", "label"])) == {"a.jpg": "1", "b.JPG": "2"}
    assert "is [file,sort], but must name the columns" in refusal(root, text, ["file", "sort"])
    assert "names no file below" in refusal(root, text, ["label", "species"])


def test_a_table_that_cannot_be_read_is_named(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.csv does not exist; name the table of labels with data\.table=FILE"):
        list_table(root, tmp_path / "none.csv", None)
    with pytest.raises(UserError, match="no text in UTF-8"):
        take(root, "file,label\na.jpg,Gänseblümchen\n", encoding="latin-1")
    with pytest.raises(UserError, match=r"name the folder of the photographs with data\.root"):
        list_table(tmp_path / "nowhere", tmp_path / "labels.csv", None)
