"""The door: commands are called as everywhere, and fail in one sentence."""

import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

import flowers
from flowers.__main__ import command_files, show_help
from flowers.config.cli import exit_on_user_error, read_arguments, run_command
from flowers.config.compose import change, compose_config, read_settings
from flowers.config.provenance import remake_command, shell_path
from flowers.config.schema import Settings
from flowers.errors import UserError

# Arguments of commands without recipes


@dataclass
class Arguments:
    photos: Path
    count: int = 3


def arguments_of(monkeypatch: pytest.MonkeyPatch, *words: str) -> Arguments:
    monkeypatch.setattr(sys, "argv", ["verb", *words])
    return read_arguments(Arguments)


def test_arguments_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    assert arguments_of(monkeypatch, "photos=a b/c", "count=7") == Arguments(Path("a b/c"), 7)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["photso=x"], "no key 'photso': did you mean 'photos'?"),
        ([], "add photos=…"),
        (["photos=x", "count=y"], "'count' cannot be used"),
        (["photos=x", "data=y"], "no key 'data': known: count, photos"),
        (["photos"], "'photos' is not of the form key=value"),
        (["photos=x", "count=[x"], "'count=[x' cannot be read: a list is written like [a,b]"),
    ],
)
def test_wrong_arguments_are_named(monkeypatch: pytest.MonkeyPatch, words: list[str], part: str) -> None:
    with pytest.raises(UserError) as caught:
        arguments_of(monkeypatch, *words)
    assert part in str(caught.value)


# Leaving


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UserError("x is wrong; mend x."), 2, "flowers: x is wrong; mend x.\n"),
        (KeyboardInterrupt(), 130, "flowers: interrupted; give the same command again.\n"),
        (KeyboardInterrupt("interrupted; go on."), 130, "flowers: interrupted; go on.\n"),
        (PermissionError(13, "Permission denied", "there"), 2, "flowers: there cannot be used (Permission denied)"),
        (OSError(28, "No space", "a", None, "b"), 2, "flowers: b cannot be written (No space): make room there.\n"),
        (OSError(27, "File too large"), 2, f"flowers: standard output, {Path.cwd()} or the folder of t"),
        (FileNotFoundError(2, "No usable temporary directory found in []"), 2, "flowers: standard output, "),
        (MemoryError(), 2, "flowers: memory is short (none is left): lower data.batch_size"),
        (ImportError("a.so: failed to map segment from shared object"), 2, "flowers: memory is short (a.so: failed"),
        (OSError(12, "Cannot allocate memory"), 2, "flowers: memory is short ([Errno 12] Cannot allocate memory)"),
    ],
)
def test_what_is_the_users_is_one_sentence(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int, said: str
) -> None:
    with pytest.raises(SystemExit) as leaving, exit_on_user_error():
        raise error
    assert leaving.value.code == code
    shown = capsys.readouterr().err
    assert shown.startswith(said)
    assert shown.count("\n") == 1


@pytest.mark.parametrize(
    "make",
    [lambda: np.ones(2**58, np.uint8), lambda: torch.ones(2**58), lambda: bytearray(2**58)],
    ids=["numpy", "torch", "python"],
)
def test_memory_that_is_short_is_one_sentence(capsys: pytest.CaptureFixture[str], make: Callable[[], object]) -> None:
    with pytest.raises(SystemExit) as leaving, exit_on_user_error():
        make()
    assert leaving.value.code == 2
    shown = capsys.readouterr().err
    assert shown.startswith("flowers: memory is short (")
    assert "data.batch_size" in shown
    assert shown.count("\n") == 1


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., int]]:
    """Run a task through Hydra in this process, in an empty folder; returns the exit code."""
    from hydra.core.global_hydra import GlobalHydra

    monkeypatch.chdir(tmp_path)

    def call(task: Callable[[Settings], Any], *words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["train.py", *words])
        try:
            run_command(task)
        except SystemExit as leaving:
            return int(leaving.code or 0)
        finally:
            GlobalHydra.instance().clear()
        return 0

    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield call
    root.handlers[:] = handlers  # Hydra's writes to an output that is closed after the test
    root.setLevel(level)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_standard_output_without_room_is_one_sentence() -> None:
    code = "from flowers.config.cli import exit_on_user_error\nwith exit_on_user_error(): print('a table')"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONUNBUFFERED": ""},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.startswith("flowers: standard output cannot be written (No space left on device): make room")
    assert done.stderr.count("\n") == 1


def test_task_gets_the_settings_and_leaves_no_empty_folder(called: Callable[..., int], tmp_path: Path) -> None:
    seen: list[Settings] = []
    assert called(seen.append, "experiment=cnn_scratch", "seed=7", "out_dir=elsewhere") == 0
    assert (seen[0].name, seen[0].seed, seen[0].out_dir) == ("cnn_scratch", 7, "elsewhere")
    assert not list((tmp_path / "runs").iterdir())


def test_error_of_a_task_is_one_sentence(called: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    def fail(settings: Settings) -> None:
        raise UserError("nothing works; mend everything.")

    assert called(fail) == 2
    assert capsys.readouterr().err == "flowers: nothing works; mend everything.\n"


def test_bug_in_a_task_is_not_hidden(called: Callable[..., int]) -> None:
    def fail(settings: Settings) -> None:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        called(fail)


@pytest.mark.parametrize("word", ["model=null", "seed=[1", "experiment=nothing", "seed=x", "foo=1"])
def test_wrong_command_line_is_one_sentence(
    called: Callable[..., int], capsys: pytest.CaptureFixture[str], word: str
) -> None:
    assert called(lambda settings: None, word) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("flowers: ")
    assert shown.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("--foo", "there is no '--foo'"),
        ("-x seed=1", "there is no '-x'"),
        ("--cfg everything", "invalid choice: 'everything'"),
        ("seed=1 --cfg", "--cfg/-c: expected one argument"),
        ("seed", "'seed' is not of the form key=value"),
        ("seed=1,2", "'seed=1,2' gives several values: add -m to try each"),
        ("-m hydra/launcher=joblib", "not installed: call `pip install hydra-joblib-launcher`"),
        ("-m hydra/launcher=submitit_slurm", "not installed: call `pip install hydra-submitit-launcher`"),
        ("-m hydra/sweeper=optuna", "not installed: call `pip install hydra-optuna-sweeper`"),
        ("hydra/launcher=bsic", "hydra/launcher has no 'bsic': did you mean 'basic'? Known: basic."),
        ("data=sampel", "did you mean 'sample'? Known: archive, flower_photos, folder, herbarium, other_plants"),
        ("data=mine", "for a folder of photographs give data=folder data.root=mine; known: archive, "),
        ("data=", "'data=' gives no value; known: archive, "),
        ("--config-name nothing", "there is no configuration 'nothing'; correct --config-name"),
        ("tracking=false", "'tracking' is a group of keys: give one of them, such as tracking.enabled=false."),
        ("logger=csv", "'logger' is a group of keys"),
        ("~trainer", "'trainer' is a group of keys"),
        *((f"~data{more}", "keep the default, or choose one with data=NAME (arch") for more in ("", " data.root=x")),
        ("data=null", "'data=null' gives no value; known: archive, "),
        ("~logger", "'logger' is a group of keys: give one of them, such as logger.NAME._target_=PACKAGE.CLASS or"),
        ("~augment", "the configuration has no key 'augment' to delete: did you mean 'model.augment'?"),
        ("~seed", "'data.seed' refers to another key with ${…}, which cannot be followed"),
        ("~seed=4", "The value of 'seed' is 0 and not 4; correct that override"),
        ("data=folder data.root=${x}", "'data.root' refers to another key with ${…}"),
        ("Blüten=1", "the configuration has no key 'Blüten'"),
        ("data.source.seed=3GB+x(", "a text with such characters in quotes, as in 'data.source.seed=\"3GB+x(\"'"),
        *((f"{key}=", f"'{key}=' gives no value") for key in ("out_dir", "data.root", "tracking.uri", "hydra.run.dir")),
        ("-m seed=1,2 hydra.sweep.dir=", "'hydra.sweep.dir=' gives no value"),
        ("name=''", "'name' is empty"),
        ("model.net.name= experiment=linear_probe", "'model.net.name' is empty"),
    ],
)
def test_what_is_wrong_with_a_command_line_is_said(
    called: Callable[..., int], capsys: pytest.CaptureFixture[str], words: str, part: str
) -> None:
    Path("mine").mkdir()
    assert called(lambda settings: None, *words.split()) == 2
    shown = capsys.readouterr().err
    assert part in shown
    assert shown.count("\n") == 1
    assert not [path for path in Path().rglob("*") if path.is_file()]


@pytest.mark.parametrize("words", ["name=a -m seed=1,2", "name=a seed=1,2 --multirun", "-m name=a seed=1,2"])
def test_options_of_hydra_stand_anywhere(called: Callable[..., int], words: str) -> None:
    seen: list[tuple[str, int]] = []
    words += " tracking.enabled=false out_dir=o"
    assert called(lambda settings: seen.append((settings.name, settings.seed)), *words.split()) == 0
    assert seen == [("a", 1), ("a", 2)]


def test_texts_of_a_sweep_are_taken_as_typed(called: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    seen: list[tuple[str, str]] = []
    words = ["-m", "data=folder", "data.root=R&D,~/2024,'a,b',2024", "out_dir=o #1", "tracking.enabled=false"]
    assert called(lambda settings: seen.append((settings.data.root, settings.out_dir)), *words) == 0
    assert seen == [(root, "o #1") for root in ("R&D", "/home/me/2024", "a,b", "2024")]


@pytest.mark.parametrize(
    ("place", "name"),
    [
        *(("", name) for name in ("R&D #1 it's (2)", "a=b,c", "${x}$HOME", "-x", "~", '"q"', "Blüten [x] 50% `y`;!\\")),
        ("../elsewhere", "it's R&D"),
    ],
)
def test_the_command_that_trains_again_can_be_typed_as_printed(
    called: Callable[..., int], tmp_path: Path, name: str, place: str
) -> None:
    seen: list[Settings] = []
    out = Path(place) / name
    out.mkdir(parents=True)
    told = "home" if name == "~" else name
    settings = read_settings(compose_config(["name=x", f"out_dir={out}", "data=folder", "data.root=x"]))
    OmegaConf.save(change(settings, {"name": told, "data.root": f"{told}/"}), out / "config.yaml")
    shell = f'flowers() {{ printf "%s\\0" "$@"; }}\n{remake_command(out)}'
    typed = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True).stdout
    command, *again = typed.rstrip("\0").split("\0")
    assert command == "train"
    assert called(seen.append, *again, "hydra/job_logging=none", "hydra/hydra_logging=none") == 0
    assert (seen[0].name, seen[0].data.root, seen[0].out_dir) == (told, f"{told}/", "again")
    # The commands that follow it take the folder as it is printed.
    shown = subprocess.run(["bash", "-c", f"printf %s {shell_path(out)}"], capture_output=True, text=True, check=True)
    assert read_arguments(Arguments, [f"photos={shown.stdout}"]).photos.resolve() == out.resolve()


def test_an_empty_folder_of_ones_own_stays(called: Callable[..., int], tmp_path: Path) -> None:
    (tmp_path / "mine/empty").mkdir(parents=True)
    assert called(lambda settings: None, "hydra.run.dir=mine/empty") == 0
    assert (tmp_path / "mine/empty").is_dir()


def test_failing_job_does_not_end_a_sweep(called: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[int] = []

    def task(settings: Settings) -> float:
        seen.append(settings.seed)
        if settings.seed == 1:
            raise UserError("seed 1 is unlucky; take another.")
        return float(settings.seed)

    assert called(task, "-m", "experiment=cnn_scratch", "seed=0,1,2", "tracking.enabled=false") == 2
    assert seen == [0, 1, 2]
    shown = capsys.readouterr()
    assert "job 1 of the sweep: seed 1 is unlucky" in shown.err
    assert re.search("best: .*seed=2", shown.out)


def test_hydra_speaks_as_everywhere(called: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert called(lambda settings: None, "--cfg", "job", "experiment=cnn_scratch") == 0
    shown = capsys.readouterr().out
    assert "_target_: flowers.models.nets.CNN" in shown
    assert called(lambda settings: None, "--help") == 0
    shown = capsys.readouterr().out
    assert "cnn_scratch" in shown
    assert "Usage: flowers COMMAND" in shown


# What is imported


COMMANDS = sorted(file.stem for file in command_files())


@pytest.mark.parametrize("command", COMMANDS)
def test_help_imports_nothing_heavy(command: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "flowers", command, "-h" if command == "split" else "--help"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    source = (Path(flowers.__file__).parent / "commands" / f"{command}.py").read_text()
    assert done.stdout.startswith(source.removeprefix('"""').partition("\n")[0])
    assert ("Choices" in done.stdout) == ("run_command(" in source)
    assert ("Keys of this command:" in done.stdout) == ("class Arguments" in source)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not imported & {"torch", "lightning", "mlflow", "pandas", "matplotlib", "numpy", "sklearn", "jinja2", "PIL"}
    assert not list(tmp_path.iterdir())


def test_help_shows_a_commands_own_keys(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    keys = (
        "class Arguments:\n    photos: Path\n    count: int = 3\n    out: Path = Path('out.csv')\n"
        "    sizes: list[float] = field(default_factory=lambda: [0.5, 1.0])\n"
        "    names: list[str] = field(default_factory=list)"
    )
    (tmp_path / "one.py").write_text(f'"""What it does."""\n{keys}\n')
    show_help(tmp_path / "one.py", ["--help"])
    shown = capsys.readouterr().out
    for part in ("What it does.", "photos=(needed)", "count=3", "out=out.csv", "sizes=[0.5, 1.0]", "names=[]"):
        assert part in shown


@pytest.mark.parametrize(
    "words", [["train", "experiment=cnn_scrach"], ["crossval", "folds=3", "sed=1"], ["crossval", "fold=3"]]
)
def test_a_mistyped_name_is_said_before_the_libraries_are_imported(words: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "flowers", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    (said,) = [line for line in lines if not line.startswith("import time:")]
    assert "did you mean" in said
    assert not {line.rpartition("|")[2].strip() for line in lines} & {"torch", "lightning", "mlflow", "pandas"}
