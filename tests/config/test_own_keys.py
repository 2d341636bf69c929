"""Keys of a command beside those of the configuration."""

import sys
from dataclasses import dataclass, field

import pytest

from flowers.config.cli import take_keys
from flowers.errors import UserError


@dataclass
class Keys:
    names: list[str]
    folds: int | None = None
    sizes: list[float] = field(default_factory=lambda: [0.5, 1.0])


def test_own_keys_are_taken_and_the_rest_is_left_in_order() -> None:
    words = ["-m", "experiment=cnn_scratch", "folds=3", "model.net.width=8,16", "+new=1", "sizes=[.1,1]", "names=[a,b]"]
    found, others = take_keys(Keys, words)
    assert found == Keys(["a", "b"], 3, [0.1, 1.0])
    assert others == ["-m", "experiment=cnn_scratch", "model.net.width=8,16", "+new=1"]


def test_what_is_not_given_has_its_default() -> None:
    assert take_keys(Keys, ["names=[a]"]) == (Keys(["a"]), [])


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("fold=3", "no key 'fold': did you mean 'folds'"),
        ("sede=1", "no key 'sede': did you mean 'seed'"),
        ("folds=many", "'folds' cannot be used"),
        ("folds=2.5", "'folds' cannot be used"),
        ("sizes=[a]", r"'sizes\[0\]' cannot be used"),
        ("folds=[3", "'folds=.3' cannot be read"),
    ],
)
def test_wrong_keys_are_named(word: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        take_keys(Keys, ["names=[a]", word])


def test_missing_key_is_named() -> None:
    with pytest.raises(UserError, match="add names=…"):
        take_keys(Keys, [])


def test_recipe_keys_groups_and_hydra_options_are_no_mistakes() -> None:
    words = ["experiment=x", "data=folder", "seed=1", "hydra.verbose=true", "~augment", "--config-name=x", "data.x=1"]
    assert take_keys(Keys, ["names=[a]", *words])[1] == words


def test_a_command_line_is_left_without_the_own_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["crossval", "names=[a]", "seed=1"])
    found, sys.argv[1:] = take_keys(Keys, sys.argv[1:])
    assert found.names == ["a"]
    assert sys.argv == ["crossval", "seed=1"]  # Hydra reads the rest
