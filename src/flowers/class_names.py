"""Which class names of two data sets mean the same flower."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from flowers.errors import UserError
from flowers.recipe import CONF_DIR

CLASS_NAMES = CONF_DIR / "class_names.yaml"


def match_classes(known: Sequence[str], others: Sequence[str], synonyms: Mapping[str, str]) -> dict[str, str]:
    """Match class names that mean the same.

    Args:
        known: The model's classes.
        others: Those of another data set.
        synonyms: From a plain name to the one that stands for it.

    Returns:
        For each of the others that the model knows, what the model calls it; several may be one class of the model.

    Raises:
        UserError: If two classes of the model could be meant.
    """
    meanings: dict[str, list[str]] = {}
    for name in known:
        plain = plain_name(name)
        meanings.setdefault(synonyms.get(plain, plain), []).append(name)
    matched: dict[str, str] = {}
    for name in others:
        plain = plain_name(name)
        candidates = [name] if name in known else meanings.get(synonyms.get(plain, plain), [])
        if len(candidates) > 1:
            raise UserError(
                f"class {name} could be {' or '.join(candidates)} of the model; rename its folder to one of these, "
                f"or take them apart in conf/{CLASS_NAMES.name}."
            )
        if candidates:
            matched[name] = candidates[0]
    return matched


def plain_name(name: str) -> str:
    """Write a class name without case, punctuation and the plural of its last word."""
    words = re.sub(r"[\W_]+", " ", re.sub(r"['’]", "", name.casefold())).split()
    if words and len(words[-1]) > 3:
        last = words[-1]
        if last.endswith("ies"):
            words[-1] = f"{last[:-3]}y"
        elif last.endswith("s") and not last.endswith(("ss", "us", "is")):
            words[-1] = last[:-1]
    return " ".join(words)


def read_class_names(path: Path) -> dict[str, str]:
    """Read which names mean the same.

    Args:
        path: YAML: a name, and the list of others that mean the same.

    Returns:
        From the plain form of each name (see :func:`plain_name`) to that of the first.

    Raises:
        UserError: If the file is no such mapping, or a name stands for two flowers.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, OSError) as error:
        raise UserError(f"{path} cannot be read ({' '.join(str(error).split())}); mend it.") from error
    if not isinstance(content, dict) or not all(isinstance(others, list) for others in content.values()):
        raise UserError(f"{path} must give each name a list of names that mean the same; mend it.")
    meaning: dict[str, str] = {}
    for first, others in content.items():
        plain = plain_name(str(first))
        for each in {plain, *(plain_name(str(other)) for other in others)}:
            if meaning.setdefault(each, plain) != plain:
                raise UserError(f"{path} gives '{each}' two meanings, {meaning[each]} and {plain}; leave one.")
    return meaning
