from pathlib import Path

import pytest

from flowers.config.provenance import file_digest


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
