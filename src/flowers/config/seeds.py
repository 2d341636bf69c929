"""Random streams that are functions of what they are for, so that no state has to survive a restart."""

import hashlib


def derive_seed(seed: int, *purpose: str | int) -> int:
    """Give each use of randomness its own stream.

    Args:
        seed: The run's seed.
        purpose: What the stream is for, for example ``("shuffle", epoch)``.

    Returns:
        A seed in [0, 2**63) that differs between purposes and is the same on every machine.
    """
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
