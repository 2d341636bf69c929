"""What is typed for a text or a path is what is meant, on every command line and in every key."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from flowers.config.check import type_of
from flowers.config.cli import read_arguments
from flowers.config.compose import compose_config, read_settings
from flowers.config.words import as_hydra_reads, read_word
from flowers.errors import UserError

TYPED = [
    *("/data/Blüten", "R&D", "it's", 'a"b', "a#b", "Garden #2", "a;b", "Photos (2024)", "a=b", "x[1]", "[x", "{x}"),
    *("a,b", "a, b", " a ", "100%", "a\\b", "C:\\Users\\me", "back\\", "$HOME", "a$b", "a${b", "花", "a\tb", "a\nb"),
    *("2024", "010", "1e3", "12:30", "A: b", "on", "no", "true", "nan", "inf", "1_000", "0x10", "-1", "- a", "!x"),
    *("a.", ".", "..", "./a", "a/", "a//b", "*.jpg", "?", "@x", "a|b", "a~", "`x`", "a!b", "<a>", "#", "&", "*x", "%x"),
    *("x" * 300, "f(x", "f(x)", "range(", "a:b", "key: {a: b}", "---", "a'b'c", 'x"', "'", '"', "~nobody-of-that-name"),
]
"""Each is a folder's name, whatever it looks like to a parser of YAML, of Hydra's grammar or of shells."""


@dataclass
class Keys:
    photos: Path
    by: str = "me"
    out: Path | None = None
    many: list[Path] | None = None
    count: int | None = 3
    sure: bool = False


@pytest.mark.parametrize("text", TYPED)
def test_own_keys_of_a_command_are_taken_as_typed(text: str) -> None:
    found = read_arguments(Keys, [f"photos={text}", f"by={text}", f"out={text}", f"many={text}"])
    assert found == Keys(Path(text), text, Path(text), [Path(text)])


def test_a_dollar_may_be_escaped_as_for_hydra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_word(r"photos=O/\${y}", str) == "O/${y}"
    (tmp_path / r"\${y}").touch()
    assert read_word(r"photos=\${y}", str) == r"\${y}"


def test_null_is_a_name_where_there_must_be_one() -> None:
    assert read_arguments(Keys, ["photos=null", "by=null"]) == Keys(Path("null"), "null")


@pytest.mark.parametrize(
    ("word", "key", "value"),
    [
        ("out=null", "out", None),
        ("photos='a b'", "photos", Path("a b")),
        ('photos="a b"', "photos", Path("a b")),
        ('photos="it\'s"', "photos", Path("it's")),
        (r'photos="a\"b"', "photos", Path('a"b')),
        ("photos=${x}", "photos", Path("${x}")),
        ("photos=choice(a,b)", "photos", Path("choice(a,b)")),
        ("photos=str(1)", "photos", Path("str(1)")),
        ("many=[a #1, 2024,null]", "many", [Path("a #1"), Path("2024"), Path("null")]),
        ("many=['a,b',\"c]\"]", "many", [Path("a,b"), Path("c]")]),
        ("many=[]", "many", []),
        ("many=null", "many", None),
        ("many=a,b", "many", [Path("a,b")]),
        ("count=010", "count", 10),
        ("count=null", "count", None),
        ("sure=on", "sure", True),
        ("sure=FALSE", "sure", False),
    ],
)
def test_quotes_lists_null_and_numbers_stay(word: str, key: str, value: object) -> None:
    assert getattr(read_arguments(Keys, ["photos=x", word] if key != "photos" else [word]), key) == value


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["photos="], "'photos=' gives no value; write one, or leave the key out."),
        (["photos=x", "many="], "'many=' gives no value"),
        (["photos=x", "many=[a,]"], "'many=[a,]' gives no value"),
        (["photos=x", "count="], "'count=' gives no value"),
        (["photos=Garden", "2"], "quote what belongs together, as in 'photos=Garden 2'."),
        (["photos=x", "--force"], "'--force' is not of the form key=value"),
        (["photos=x", "count=1,2"], "'count=1,2' gives several values"),
        (["photos=x", "count=12:30"], "'count' cannot be used"),
        (["photos=x", "count=3 GB"], "'count' cannot be used"),
        (["photos=x", "count={"], "'count={' cannot be read"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(words: list[str], part: str) -> None:
    with pytest.raises(UserError) as caught:
        read_arguments(Keys, words)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_home_is_written_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    found = read_arguments(Keys, ["photos=~/pics", "out=~", "many=[~/a,b~/c]", "by=~me"])
    assert found.photos == Path("/home/me/pics")
    assert found.out == Path("/home/me")
    assert found.many == [Path("/home/me/a"), Path("b~/c")]
    assert found.by == "~me"


# Keys of the configuration


def hydra_value(word: str) -> object:
    return OverridesParser.create().parse_overrides([word])[0].value()


@pytest.mark.parametrize("text", [*TYPED, "null"])
def test_hydra_reads_what_was_typed(text: str) -> None:
    word = as_hydra_reads(f"out_dir={text}", type_of("out_dir"), sweep=False)
    assert hydra_value(word) == text.replace("${", "\\${")


@pytest.mark.parametrize("text", TYPED)
def test_each_value_of_a_sweep_is_taken_as_typed(text: str) -> None:
    if "," in text or text != text.strip():  # where Hydra splits, and what it strips
        return
    word = as_hydra_reads(f"out_dir=x,{text}", type_of("out_dir"), sweep=True)
    (override,) = OverridesParser.create().parse_overrides([word])
    assert list(override.sweep_iterator()) != []
    assert [hydra_value(f"x={each}") for each in override.sweep_string_iterator()] == ["x", text.replace("${", "\\${")]


@pytest.mark.parametrize(
    "word",
    [
        *(
            "out_dir=runs/a",
            'out_dir="a b"',
            "out_dir='a #b'",
            r"out_dir=epoch\=3",
            "out_dir=${name}",
            r"out_dir=\${x}",
        ),
        *("out_dir=runs/${name}/${seed}", "weights=null", "weights=NULL", "out_dir=choice(a,b)", "out_dir=glob(*)"),
        *(
            "seed=1,2",
            "seed=range(1,4)",
            "model.stages=[{name: a}]",
            "seed=null",
            "~out_dir",
            "-m",
            "--config-path=a b",
        ),
        *("data=folder", "experiment=a,b", "hydra/launcher=basic", "hydra.job.num=3", "hydra.verbose=true"),
    ],
)
def test_what_people_know_of_hydra_stays(word: str) -> None:
    for sweep in (False, True):
        assert as_hydra_reads(word, type_of(word.partition("=")[0].lstrip("+")), sweep) == word


def test_escapes_and_references_are_names_where_such_a_file_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("${name}", r"a\=b"):
        Path(name).mkdir()
        settings = read_settings(compose_config(["name=n", "out_dir=o", "data=folder", f"data.root={name}"]))
        assert settings.data.root == name


TEXT_KEYS = [
    *("name", "out_dir", "weights", "weights_sha256", "progress", "tracking.uri", "data.name", "data.root"),
    *(
        "data.decisions",
        "data.split_csv",
        "data.cache_dir",
        "data.sampling",
        "data.source.inner",
        "model.class_weights",
    ),
    *("model.net.name", "model.net.head", "trainer.default_root_dir"),
]


@pytest.mark.parametrize("first", range(0, len(TYPED), len(TEXT_KEYS)))
def test_a_configuration_has_what_was_typed(first: int) -> None:
    texts = dict(zip(TEXT_KEYS, (TYPED * 2)[first:], strict=False))
    words = [f"{key}={text}" for key, text in texts.items()]
    config = compose_config(["experiment=linear_probe", "data=archive", "seed=3", *words])
    assert {key: OmegaConf.select(config, key) for key in texts} == texts
    assert config.seed == 3
    # Saved with a model, and opened again.
    again = OmegaConf.create(OmegaConf.to_yaml(read_settings(config)))
    assert isinstance(again, DictConfig)
    assert {key: OmegaConf.select(read_settings(again), key) for key in texts} == texts
