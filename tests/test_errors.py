import pytest

from flowers.errors import suggestion


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("dasy", ["roses", "daisy"], "did you mean 'daisy'?"),
        ("adam", {"sgd", "adamw"}, "did you mean 'adamw'?"),
        ("xyz", ["roses", "daisy"], "known: daisy, roses"),
        ("", ["roses"], "known: roses"),
        ("xyz", [], "none exist"),
        ("seed", iter(["seeds"]), "did you mean 'seeds'?"),
    ],
)
def test_the_nearest_name_is_offered_else_all(name: str, known: list[str], hint: str) -> None:
    assert suggestion(name, known) == hint
