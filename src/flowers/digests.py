"""Digests, by which content is recognised whatever its name."""

import hashlib
from pathlib import Path


def file_digest(path: Path) -> str:
    """Compute the sha256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
