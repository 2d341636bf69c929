import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowers.errors import UserError
from flowers.sources.synthetic import sample
from flowers.sources.synthetic.composition import DOMAINS, Picture
from flowers.sources.synthetic.flower_head import SPECIES
from flowers.sources.synthetic.sample import paint, render

DIFFICULTIES = ("illumination", "occlusion", "deformation", "clutter", "variation")
CLASSES = ("daisy", "dandelion", "roses", "sunflowers", "tulips")


def settings(level: float = 0.5, **changes: Any) -> dict[str, Any]:
    return {"seed": 3, "size_px": 48, "domain": "garden"} | dict.fromkeys(DIFFICULTIES, level) | changes


def pixels(species: str, index: int = 1, **changes: Any) -> np.ndarray:
    return np.asarray(paint(Picture(species, index, **settings(**changes)))).astype(float)


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_bytes_depend_neither_on_the_workers_nor_on_the_other_images(tmp_path: Path) -> None:
    render(tmp_path / "one", counts={"daisy": 3, "roses": 2}, workers=1, **settings())
    render(tmp_path / "two", counts={"roses": 3, "tulips": 1, "daisy": 3}, workers=2, **settings())
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    assert list(one) == [
        *(f"daisy/daisy_000{k}.jpg" for k in (1, 2, 3)),
        "roses/roses_0001.jpg",
        "roses/roses_0002.jpg",
    ]
    assert len(two) == 7
    assert {name: two[name] for name in one} == one
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one", "two"]


def test_seed_index_and_species_each_give_another_image() -> None:
    first = pixels("roses")
    assert np.array_equal(first, pixels("roses"))
    assert not np.array_equal(first, pixels("roses", seed=4))
    assert not np.array_equal(first, pixels("roses", index=2))
    assert not np.array_equal(first, pixels("tulips"))


@pytest.mark.parametrize("name", DIFFICULTIES)
def test_each_difficulty_changes_the_image_much(name: str) -> None:
    change = [np.abs(pixels("tulips", k, level=0) - pixels("tulips", k, level=0, **{name: 1.0})) for k in range(1, 5)]
    assert np.mean(change) > 4


def test_size_changes_only_the_scale() -> None:
    small = paint(Picture("sunflowers", 1, **settings(0.3, size_px=64, illumination=0.0)))
    large = paint(Picture("sunflowers", 1, **settings(0.3, size_px=128, illumination=0.0))).resize((64, 64))
    assert np.abs(np.asarray(small).astype(float) - np.asarray(large)).mean() < 12


@pytest.mark.parametrize("species", SPECIES)
def test_every_species_shows_something_in_both_domains(species: str) -> None:
    for domain in DOMAINS:
        image = pixels(species, size_px=64, level=0.2, domain=domain)
        assert image.shape == (64, 64, 3)
        assert image.std() > 12
    for form in SPECIES[species]:
        tints = max(ring.tint for ring in form.rings) + 1
        assert all(len(palette.split()) >= 2 * tints for palette in form.palettes)


def test_there_are_the_five_classes_and_enough_others_to_pretrain_on() -> None:
    assert set(CLASSES) <= set(SPECIES)
    assert len(SPECIES) >= 17


def test_a_herbarium_is_paler_more_muted_and_always_brownish() -> None:
    def images(domain: str) -> np.ndarray:
        return np.array([pixels(c, k, domain=domain) for c in CLASSES for k in (1, 2, 3)])

    garden, herbarium = images("garden"), images("herbarium")
    assert herbarium.mean() > garden.mean() + 10
    red_over_blue = (herbarium[..., 0] - herbarium[..., 2]).mean((1, 2))
    assert red_over_blue.min() > 10
    assert red_over_blue.std() < 0.6 * (garden[..., 0] - garden[..., 2]).mean((1, 2)).std()


@pytest.mark.slow
def test_clean_images_are_told_apart_by_their_nearest_centroid_and_hard_ones_less() -> None:
    def accuracy(level: float) -> float:
        images = [[pixels(c, k, level=level, size_px=16).ravel() for k in range(1, 17)] for c in CLASSES]
        bank = np.array(images)
        centroids = bank[:, :8].mean(1)
        distance = np.linalg.norm(bank[:, 8:, None] - centroids[None, None], axis=-1)
        return float((distance.argmin(-1) == np.arange(len(CLASSES))[:, None]).mean())

    assert accuracy(0.0) > 0.9
    assert accuracy(0.7) < 0.8


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"counts": {"dasy": 2}}, "'dasy'.*did you mean 'daisy'"),
        ({"counts": {}}, "counts"),
        ({"counts": {"daisy": 0}}, "counts.daisy is 0"),
        ({"counts": {"daisy": -1}}, "counts.daisy is -1"),
        ({"domain": "herbarum"}, "domain 'herbarum'.*did you mean 'herbarium'"),
        ({"clutter": 1.2}, "clutter is 1.2"),
        ({"variation": float("nan")}, "variation is nan"),
        ({"size_px": 15}, "size_px is 15.*at least 16"),
        ({"seed": -1}, "seed is -1"),
        ({"workers": 0}, "workers is 0"),
    ],
)
def test_bad_argument_is_refused_before_anything_is_written(
    tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        render(tmp_path / "photos", **({"counts": {"daisy": 1}} | settings(**changes)))
    assert list(tmp_path.iterdir()) == []


def test_folder_that_is_not_empty_is_not_changed(tmp_path: Path) -> None:
    (tmp_path / "mine.jpg").write_bytes(b"precious")
    with pytest.raises(UserError, match="not an empty folder"):
        render(tmp_path, counts={"daisy": 1}, workers=1, **settings())
    assert contents(tmp_path) == {"mine.jpg": b"precious"}


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    render(tmp_path / "photos", counts={"daisy": 1}, workers=1, **settings())
    assert list(contents(tmp_path / "photos")) == ["daisy/daisy_0001.jpg"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interrupted_rendering_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    save = sample.save

    def fail_at_the_second(picture: Picture, path: Path) -> None:
        if picture.index == 2:
            raise error
        save(picture, path)

    monkeypatch.setattr(sample, "save", fail_at_the_second)
    with pytest.raises(error):
        render(tmp_path / "photos", counts={"daisy": 3}, workers=1, **settings())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_script_needs_no_guard(tmp_path: Path) -> None:
    """Processes that import the script again would wait for the first, which waits for them."""
    words = f"counts={{'daisy': 3}}, workers=2, **{settings()!r}"
    (tmp_path / "script.py").write_text(f"""
from pathlib import Path
from flowers.sources.synthetic.sample import render
render(Path("photos"), {words})
""")
    subprocess.run([sys.executable, "script.py"], cwd=tmp_path, timeout=120, check=True)
    assert len(contents(tmp_path / "photos")) == 3
