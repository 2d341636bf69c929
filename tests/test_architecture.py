"""The house stands as design.md says: imports point down, and a stage depends on the code that it runs.

Both are read from the source, function-level imports included; nothing is executed.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src"
PACKAGE = SRC / "flowers"
VERBS = {
    "download",
    "split",
    "compose",
    "train",
    "evaluate",
    "compare",
    "predict",
    "verify",
    "lr_find",
    "suspects",
    "clean",
    "card",
    "check",
    "report",
    "notebooks",
    "ui",
    "crossval",
    "learning_curve",
    "baselines",
}
DOOR = {"commands", "recipe", "sweep"}
HEAVY_OWNERS = {
    "mlflow": {f"flowers.review.{name}" for name in ("parents", "runs", "store", "tracking")},
    "IPython": {"flowers.notebook"},
    "jupytext": {"flowers.notebooks"},
    "nbclient": {"flowers.notebooks"},
    "hydra": {"flowers.commands", "flowers.naming", "flowers.recipe", "flowers.sweep"},
    "lightning": {"flowers.train", "flowers.data.datamodule", "flowers.learning.*"},
    "jinja2": {"flowers.review.page"},
    "matplotlib": {"flowers.review.*", "flowers.measure"},
    "captum": {"flowers.review.explain"},
    "timm": {"flowers.models.backbones"},
    "safetensors": {"flowers.models.weights"},
}

PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())
STAGES = sorted(PIPELINE["stages"])

MLFLOW_ONLY = "only tells MLflow; nothing that the stage writes depends on it"
WORDS = "decides how a command is called and how it fails, not what it writes"
NOT_REACHED = "taken only when data.split_csv is null, which compose sets"
WORDS_ONLY = {"flowers.commands": WORDS, "flowers.errors": WORDS}
EXCLUDED: dict[str, dict[str, str]] = {
    "compare": {"flowers.recipe": WORDS, "flowers.settings": WORDS},
    "pretrain": {
        "flowers.naming": MLFLOW_ONLY,
        "flowers.record": MLFLOW_ONLY,
        "flowers.review.backlog": MLFLOW_ONLY,
        "flowers.review.tracking": MLFLOW_ONLY,
        "flowers.review.figures": MLFLOW_ONLY,
        "flowers.review.matrix": MLFLOW_ONLY,
        "flowers.sweep": MLFLOW_ONLY,
    },
    "train": {
        "flowers.naming": MLFLOW_ONLY,
        "flowers.record": MLFLOW_ONLY,
        "flowers.review.backlog": MLFLOW_ONLY,
        "flowers.review.tracking": MLFLOW_ONLY,
        "flowers.review.figures": MLFLOW_ONLY,
        "flowers.review.matrix": MLFLOW_ONLY,
        "flowers.sweep": MLFLOW_ONLY,
        "flowers.data.sources": NOT_REACHED,
        "flowers.data.intake": NOT_REACHED,
    },
    "baselines": {
        "flowers.review.tracking": MLFLOW_ONLY,
        "flowers.data.sources": NOT_REACHED,
    },
    "evaluate": {
        "flowers.review.tracking": MLFLOW_ONLY,
        "flowers.robustness": "taken only with corruptions=true, which the stage does not give",
    },
}
# What a configuration names by `_target_`, which no import shows.
NAMED: dict[str, tuple[str, ...]] = {
    "baselines": ("model/*.yaml",),
    "download": ("data/*.yaml",),
    "pretrain": ("data/species.yaml", "model/resnet_small.yaml"),
    "train": ("model/*.yaml",),
    "evaluate": ("model/*.yaml", "data/strangers.yaml"),
}


def module_file(name: str) -> Path | None:
    file = SRC.joinpath(*name.split(".")).with_suffix(".py")
    return file if file.is_file() else None


def modules() -> list[str]:
    files = sorted(PACKAGE.rglob("*.py"))
    return [".".join(file.relative_to(SRC).with_suffix("").parts) for file in files if file.stem != "__init__"]


def walk_executed(node: ast.AST) -> Iterator[ast.AST]:
    """Visit what can run: everything but `if TYPE_CHECKING:`."""
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        for other in node.orelse:
            yield from walk_executed(other)
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from walk_executed(child)


def imports(name: str) -> set[str]:
    """List the modules that a module imports, ours by full name, others by their first part."""
    file = module_file(name)
    assert file is not None
    found: set[str] = set()
    for node in walk_executed(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} has a relative import"
            assert node.module is not None
            below = {f"{node.module}.{alias.name}" for alias in node.names}
            ours = {each for each in below if module_file(each)}
            found |= ours or {node.module}
    return {each if each.startswith("flowers.") else each.partition(".")[0] for each in found} - {"flowers"}


def reached(start: set[str], cut: set[str]) -> set[str]:
    """Follow the imports of our modules to the end, but not into those of `cut`."""
    seen: set[str] = set()
    waiting = list(start)
    while waiting:
        name = waiting.pop()
        if name not in seen | cut and module_file(name):
            seen.add(name)
            waiting += imports(name)
    return seen


def room(name: str) -> str:
    parts = name.split(".")
    return parts[1] if len(parts) > 2 else ""


@pytest.mark.parametrize("name", modules())
def test_imports_point_down(name: str) -> None:
    allowed = {
        "": {"", "review", "learning", "models", "data"},
        "review": {"review"},
        "learning": {"learning", "models", "data"},
        "models": {"models"},
        "data": {"data"},
    }[room(name)]
    ground = {"errors", "settings", "digests", "seeds"}  # below every room
    for other in imports(name):
        if not other.startswith("flowers."):
            continue
        stem = other.split(".")[1]
        if room(other) == "" and stem in ground:
            continue
        assert room(other) in allowed, f"{name} imports {other}"
        assert room(name) == "" or room(other) != "", f"{name} imports {other}, which stands above it"
        if name.split(".")[1] not in VERBS | DOOR:
            assert not (room(other) == "" and stem in VERBS), f"{name} imports the verb {other}"


@pytest.mark.parametrize("name", modules())
def test_heavy_library_has_its_owners(name: str) -> None:
    for library in imports(name) & HEAVY_OWNERS.keys():
        owners = HEAVY_OWNERS[library]
        assert name in owners or f"{name.rpartition('.')[0]}.*" in owners, f"{name} imports {library}"


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_verb_is_its_own_command(verb: str) -> None:
    source = (PACKAGE / f"{verb}.py").read_text()
    assert '__name__ == "__main__"' in source


@pytest.mark.parametrize("stage", STAGES)
def test_stage_depends_on_exactly_its_code(stage: str) -> None:
    command = PIPELINE["stages"][stage]["cmd"]
    verb = command.partition("-m flowers.")[2].split()[0]
    start = {f"flowers.{verb}"}
    for pattern in NAMED.get(stage, ()):
        for file in (ROOT / "conf").glob(pattern):
            start |= targets(yaml.safe_load(file.read_text()))
    excluded = EXCLUDED.get(stage, {})
    unknown = excluded.keys() - reached(start, cut=set())
    assert not unknown, f"{stage} does not reach {sorted(unknown)}: take them out of EXCLUDED"
    needed = reached(start, cut=set(excluded)) - WORDS_ONLY.keys()
    wanted = {str(file.relative_to(ROOT)) for name in needed for file in [module_file(name)] if file}
    if "flowers.review.page" in needed:
        wanted.add("src/flowers/review/templates")
    stated = {dependency for dependency in PIPELINE["stages"][stage]["deps"] if dependency.startswith("src/")}
    listing = "\n".join(f"      - {dependency}" for dependency in sorted(wanted))
    assert stated == wanted, (
        f"\nmissing: {sorted(wanted - stated)}\ntoo many: {sorted(stated - wanted)}\n"
        f"the code that stage {stage} should name in dvc.yaml:\n{listing}"
    )


def targets(node: object) -> set[str]:
    """Find the modules that `_target_`s in a configuration name."""
    if isinstance(node, list):
        return set().union(*(targets(item) for item in node))
    if not isinstance(node, dict):
        return set()
    own = {str(node["_target_"]).rpartition(".")[0]} if "_target_" in node else set()
    return own.union(*(targets(item) for item in node.values()))
