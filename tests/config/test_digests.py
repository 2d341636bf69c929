from pathlib import Path

import pytest

from flowers.config import provenance
from flowers.config.provenance import code_digest, file_digest


def test_a_digest_is_of_the_content_and_not_of_the_name(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"abc")
    (tmp_path / "two").write_bytes(b"abc")
    # the example of FIPS 180-2, appendix B.1
    assert file_digest(tmp_path / "one") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_digest(tmp_path / "two") == file_digest(tmp_path / "one")
    (tmp_path / "two").write_bytes(b"abd")
    assert file_digest(tmp_path / "two") != file_digest(tmp_path / "one")


def test_what_is_not_there_has_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        file_digest(tmp_path / "none")


def test_the_digest_of_rooms_covers_their_tables_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sources/drawn").mkdir(parents=True)
    for name in ("sources/read.py", "sources/drawn/species.yaml", "report.py"):
        (tmp_path / name).write_text("1")
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "config/provenance.py"))
    one = code_digest("sources/read.py")
    before = code_digest("sources")
    for name, counts in (("sources/read.py", True), ("sources/drawn/species.yaml", True), ("report.py", False)):
        (tmp_path / name).write_text("2")
        assert (code_digest("sources") != before) is counts
        assert code_digest("sources/read.py") != one
        before = code_digest("sources")
