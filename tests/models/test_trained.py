"""A trained model's folder that is damaged, whatever its files hold, is one sentence, soon and in little memory."""

import copy
import json
import math
import random
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from flowers.commands.train import train
from flowers.config.provenance import peak_memory_bytes
from flowers.config.schema import Settings
from flowers.errors import UserError
from flowers.evaluation.predictions import outlier_scores, predict_files
from flowers.evaluation.result_files import read_history
from flowers.models.trained import open_model

MUTATIONS = 1000
LONGEST_S = 10
MOST_BYTES = 2**30
VALUES: list[Any] = [
    *(None, 0, 1, -1, True, False, 1e-300, 1e300, 200_000, 2**31, 2**63, 10**30, math.nan, math.inf, -math.inf),
    *("", "x", "../x", "${seed}", "\0", "\ud800", "é" * 1000, [], {}, [[]], {"x": None}, list(range(100))),
    {"_target_": "os.system"},
    {"_target_": "torch.nn.Linear", "in_features": 10**6, "out_features": 10**6},
]


def places(node: Any) -> Iterator[tuple[Any, Any]]:
    """List containers and the keys in them, at any depth."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield node, key
        yield from places(value)


def mutated(content: Any, pick: random.Random) -> Any:
    """Replace, delete, retype or nest one to three nodes of a document."""
    content = copy.deepcopy(content)
    for _ in range(pick.choice([1, 1, 1, 2, 3])):
        node, key = pick.choice(list(places(content)) or [([content], 0)])
        value = node[key]
        action = pick.choice(["replace", "replace", "delete", "retype", "nest", "double"])
        if action == "replace":
            node[key] = pick.choice(VALUES)
        elif action == "delete":
            del node[key]
        elif action == "retype":
            node[key] = pick.choice([str(value), [value], {"x": value}, bool(value)])
        elif action == "nest":
            for _ in range(pick.choice([3, 60])):
                node[key] = [node[key]]
        else:
            node[key] = value * 2 if isinstance(value, int | float | str | list) else [value, value]
    return content


def flipped(content: bytes, pick: random.Random) -> bytes:
    """Change, cut or repeat some bytes."""
    changed = bytearray(content)
    for _ in range(pick.choice([1, 3, 30])):
        place = pick.randrange(min(len(changed), pick.choice([64, 2000, len(changed)])))
        changed[place] = pick.randrange(256)
    cut = pick.randrange(len(changed))
    return bytes(pick.choice([changed, changed, changed, changed[:cut], changed[cut:], changed + changed[:cut]]))


def opened(folder: Path) -> None:
    """Open what ``evaluate`` and ``predict`` open, and classify a photograph."""
    model = open_model(folder)
    split = model.split()
    predict_files(model, outlier_scores(model), {"one": model.photographs(split) / split["path"][0]}, {}, "one")
    read_history(folder / "history.csv", "train again")


@pytest.fixture
def model(make_settings: Callable[..., Settings], tmp_path: Path) -> Path:
    train(make_settings())
    return tmp_path / "out"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_damaged_folder_is_one_sentence(model: Path) -> None:
    pick = random.Random(0)
    before = {file.name: file.read_bytes() for file in sorted(model.iterdir()) if file.suffix != ".ckpt"}
    trees = {"run.json": json.loads(before["run.json"]), "config.yaml": yaml.safe_load(before["config.yaml"])}
    names = ["config.yaml", *before]
    opened(model)
    start, refused = peak_memory_bytes(), 0
    for number in range(MUTATIONS):
        name = pick.choice(names)
        if name in trees and pick.random() < 0.8:
            tree = mutated(trees[name], pick)
            text = json.dumps(tree) if name == "run.json" else yaml.safe_dump(tree, allow_unicode=False)
            content = text.encode()
        else:
            content = flipped(before[name], pick)
        (model / name).write_bytes(content)
        begun = time.monotonic()
        said = ""
        try:
            opened(model)
        except UserError as error:
            said, refused = str(error), refused + 1
        except Exception as error:
            raise AssertionError(f"mutation {number} of {name}: {content[:3000]!r}") from error
        assert not re.search(r"[\n\r]", said), (number, name, said)
        assert len(said) < 2000, (number, name, said)
        assert time.monotonic() - begun < LONGEST_S, (number, name)
        assert peak_memory_bytes() - start < MOST_BYTES, (number, name)
        (model / name).write_bytes(before[name])
    assert refused > MUTATIONS / 2


@pytest.mark.slow
def test_what_would_take_all_memory_is_refused(model: Path) -> None:
    before, start = peak_memory_bytes(), time.monotonic()
    config, run = (model / "config.yaml").read_text(), (model / "run.json").read_text()
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30))
    for name, content in (
        ("config.yaml", bomb),
        ("config.yaml", "a: " + "[" * 60_000),
        ("config.yaml", config.replace("image_px: 32", "image_px: 200000")),
        ("config.yaml", config.replace("width: 4", "width: 60000")),
        ("config.yaml", config.replace("dense: 8", "dense: 65536")),
        ("config.yaml", config.replace("blocks: 2", "blocks: 65536")),
        ("config.yaml", config.replace("blocks: 2", "blocks: 99999999999")),
        ("config.yaml", config.replace("seed: 0", f"seed: {'9' * 9999}", 1)),
        ("run.json", "[" * 100_000),
        ("run.json", json.dumps({**json.loads(run), "temperature": 0})),
        ("run.json", json.dumps({**json.loads(run), "temperature": math.nan})),
        ("run.json", json.dumps({**json.loads(run), "classes": [str(number) for number in range(10**6)]})),
    ):
        (model / name).write_text(content)
        with pytest.raises(UserError):
            open_model(model)
        (model / "config.yaml").write_text(config)
        (model / "run.json").write_text(run)
    assert peak_memory_bytes() - before < MOST_BYTES
    assert time.monotonic() - start < 60
