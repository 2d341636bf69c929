import numpy as np

from flowers.config.provenance import derive_seed


def test_each_purpose_has_its_own_stream_and_the_same_on_every_machine() -> None:
    assert derive_seed(0, "shuffle", 3) == 2386335075006008887
    seeds = [derive_seed(seed, use, k) for seed in range(5) for use in ("shuffle", "augment") for k in range(50)]
    seeds += [derive_seed(1, 11), derive_seed(11, 1), derive_seed(1), derive_seed(1, 1, 1)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_neighbouring_streams_are_unlike() -> None:
    draws = [np.random.default_rng(derive_seed(0, "augment", epoch)).random(2000) for epoch in range(4)]
    assert abs(np.corrcoef(draws) - np.eye(4)).max() < 0.08
