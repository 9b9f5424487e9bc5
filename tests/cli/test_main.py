from __future__ import annotations

import hashlib
import importlib
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

import vitrail
from vitrail import cli, registry
from vitrail.errors import UserError


@pytest.fixture
def verb(monkeypatch):
    """``verb(function)`` registers a verb ``probe`` that runs the function."""

    def register(function):
        module = importlib.import_module("vitrail.cli.models")
        monkeypatch.setattr(module, "models", function)

    return register


def run(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "vitrail", *arguments], capture_output=True, timeout=120, check=False, **options
    )


@pytest.mark.parametrize("arguments", [["--help"], [], ["-h"], ["predict", "--help"], ["--version"]])
def test_help_needs_no_torch(arguments):
    program = (
        "import sys; from vitrail.cli import main\n"
        f"code = main({arguments!r})\n"
        "heavy = {'torch', 'torchvision', 'numpy', 'PIL', 'matplotlib', 'sklearn', 'pydantic', 'yaml'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert ("vitrail" in done.stdout) or done.stdout.strip() == vitrail.__version__


def test_importing_vitrail_needs_nothing():
    program = "import sys, vitrail; print([m for m in ('torch', 'numpy', 'pydantic') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "[]\n"


def test_every_verb_has_a_summary_and_its_own_help(capsys):
    verbs = cli.verbs()
    assert {"predict", "embed", "explain", "models"} <= {v.name for v in verbs}
    assert cli.main(["--help"]) == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert {v.group for v in verbs} <= set(cli.GROUPS)
    for verb in verbs:
        assert verb.summary.endswith("."), verb
        assert len(verb.summary) <= 90, verb
        assert verb.summary in shown
        assert verb.name.replace("-", "_") in registry.names("cli")
    for verb in verbs:
        assert cli.main([verb.name, "--help"]) == 0
        text = capsys.readouterr().out
        assert text.startswith(f"Usage: vitrail {verb.name} ")
        assert "classify images" not in text, "the examples of the whole command belong to its own help"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pedict"], 'Did you mean "predict"?'),
        (["predict", "run", "x.jpg", "--tpo", "3"], "Unknown option: --tpo. Did you mean --top?"),
        (["predict", "run", "x.jpg", "--top", "many"], 'Invalid value for --top: unable to convert "many" into int.'),
        (["predict", "run", "x.jpg", "--top", "0"], "--top"),
        (["predict", "run", "x.jpg", "--on-bad", "ignore"], 'Choose from: "error", "skip".'),
        (["predict"], "requires an argument; for example: vitrail predict runs/birds photo.jpg"),
        (
            ["predict", "run"],
            "or - for standard input; for example: vitrail predict runs/birds photo.jpg",
        ),
        (["data", "check"], "for example: vitrail data check photos/"),
        (["convert", "run", "out"], "for example: vitrail convert runs/birds birds-hf --to huggingface"),
        (
            ["train"],
            "give a folder of pictures, --recipe NAME or --resume RUN; for example: vitrail train",
        ),
        (["report"], "no run given; give the folder of one or several; for example: vitrail report runs/birds"),
        (["train", "photos", "--out", "a", "--name", "b"], "give one of them"),
        (
            ["train", "photos", "--image-size", "224x"],
            "'224x' is no size in pixels; write 384",
        ),
        (["predict", "run", "x.jpg", "--batch-size", "0"], "--batch-size"),
        (["evaluate", "run", "--batch-size", "-1"], "--batch-size"),
        (["serve", "run", "--port", "99999"], "--port"),
        (["serve", "run", "--port", "-1"], "--port"),
        (["help", "pedict"], "there is no command 'pedict'; did you mean 'predict'?"),
        (["predict", "no-such-run", "no-such-file.jpg"], "'no-such-file.jpg' does not exist"),
        (["models", "S/61x"], "unknown model 'S/61x'"),
        (["models", "S/16", "--set", "dpeth=3"], "unknown setting 'dpeth'; did you mean 'depth'?"),
    ],
)
def test_a_mistake_is_one_line_and_2(arguments, message, capsys):
    assert cli.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("vitrail: error: ")
    assert err.count("\n") == 1
    assert message in err


def test_help_of_a_verb_is_that_of_its_option(capsys):
    for verb in (["train"], ["data", "check"], []):
        assert cli.main(["help", *verb]) == 0
        asked = capsys.readouterr().out
        assert cli.main([*verb, "--help"]) == 0
        assert capsys.readouterr().out == asked


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_verbs_and_options(capsys, shell):
    assert cli.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(name in script for name in ("predict", "quantize", "on-bad", "distill-kind"))


def test_a_users_error_is_printed_escaped(verb, capsys):
    def fails() -> None:
        raise UserError(f"bad {os.fsdecode(bytes([0xE9]))}\n{chr(27)}[31m")

    verb(fails)
    assert cli.main(["models"]) == 2
    assert capsys.readouterr().err == "vitrail: error: bad \\xe9\\n\\x1b[31m\n"


def test_a_bug_keeps_its_traceback(verb):
    def fails() -> None:
        raise ZeroDivisionError("ours")

    verb(fails)
    with pytest.raises(ZeroDivisionError, match="ours"):
        cli.main(["models"])


def test_interrupted_is_130(verb, capsys):
    def fails() -> None:
        raise KeyboardInterrupt

    verb(fails)
    assert cli.main(["models"]) == 130
    assert capsys.readouterr() == ("", "vitrail: stopped\n")


def test_an_interrupt_is_answered_while_an_operation_does_not_return(verb, monkeypatch):
    """As while a model is converted: Python's own handler waits until the operation, here a hash of a second, ended."""
    said: list[float] = []

    def computes() -> None:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            hashlib.pbkdf2_hmac("sha256", b"", b"", 3_000_000)
        finally:
            said.append(time.monotonic())

    write = os.write
    monkeypatch.setattr(
        os, "write", lambda file, text: said.append(time.monotonic()) if b"stopping" in text else write(file, text)
    )
    verb(computes)
    assert cli.main(["models"]) == 130
    when, ended = said
    assert when < ended - 0.1


def test_a_verbs_own_exit_code_is_kept(verb):
    def answers() -> int:
        return 75

    verb(answers)
    assert cli.main(["models"]) == 75


def test_a_reader_that_leaves_is_no_error():
    program = (
        "import sys, vitrail.cli.models as module\n"
        "from vitrail.cli import main\n"
        "def talks() -> None:\n"
        "    for number in range(10**6): print(number)\n"
        "module.models = talks\n"
        "sys.exit(main(['models']))"
    )
    pipe = f'"{sys.executable}" -c "$PROGRAM" | head -1; echo "${{PIPESTATUS[0]}}"'
    environment = os.environ | {"PROGRAM": program}
    command = ["bash", "-c", pipe]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert done.stderr == ""
    assert done.stdout == "0\n141\n"


def test_a_name_that_the_terminal_cannot_show_is_escaped():
    program = (
        "import sys, vitrail.cli.models as module\n"
        "from vitrail.cli import main\n"
        "def talks() -> None:\n"
        "    print('猫')\n"
        "module.models = talks\n"
        "sys.exit(main(['models']))"
    )
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, env=environment)
    assert done.stdout == rb"\u732b" + b"\n"


def test_version():
    done = run("--version")
    assert done.stdout.decode().strip() == vitrail.__version__


def test_a_hyphen_reaches_the_verb(verb):
    seen = []

    def takes(*names: str) -> None:
        seen.extend(names)

    verb(takes)
    assert cli.main(["models", "a", "-", "b"]) == 0
    assert seen == ["a", "/dev/stdin", "b"]
