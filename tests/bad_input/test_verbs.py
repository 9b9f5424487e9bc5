"""The corpus through the verbs: data check, train, evaluate, predict, embed and explain."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NamedTuple

import pytest
from corpus import CASES, dataset_with, image_cases
from corpus_case import Case, good_folder, without_root_powers

from vitrail.cli import main
from vitrail.console import printable
from vitrail.data import source
from vitrail.data.media.decode import _warn_once
from vitrail.train.loggers import Row
from vitrail.train.loop import Loop

MODEL = "--set=model.patch_size=8 --set=model.dim=32 --set=model.depth=1 --set=model.heads=2 --set=model.mlp_dim=32"
OPTIONS = f"--image-size 16 --workers 0 --device cpu --precision fp32 --augment none --no-report {MODEL}".split()
NO_CACHE = "--set=data.loader.cache=false"
SOURCES = {  # of each number one for each format, which the name begins with
    (case.number, case.name.partition("-")[0]): case
    for case in CASES
    if case.kind != "image" and case.after_open is None
}
KINDS = (
    "empty", "jpeg-cut-in-half", "13000x13000-in-160-kB", "eps-named-png", "unreadable",  # refused
    "png-named-jpg", "16-bit-grey", "rgba", "exif-orientation-6", "animated-gif", "1x10000",  # converted or turned
    "corrupt-exif", "multi-page-tiff",  # told
    "newline-in-path", "non-utf8-name",
)  # fmt: skip
"""Images that verbs could treat differently. ``test_decode_and_check.py`` decodes all and opens all sources, by the
functions that every verb calls."""
IMAGES = [case for case in image_cases() if case.name in KINDS]
KNOWN_CLASSES = {"one-class": "", "empty-class": "'bird'"}  # what evaluate says, for which the model's classes count


class Outcome(NamedTuple):
    """What a command gave back."""

    code: int
    out: str
    err: str

    def accepted(self) -> Outcome:
        assert self.code == 0, self.err
        assert "vitrail: error:" not in self.err
        return self

    def rejected(self, *mentioned: str) -> Outcome:
        """With one line, the last, that says which and why."""
        assert self.code == 2, self.err
        assert [line for line in self.err.splitlines() if "error:" in line] == [self.line]
        assert self.line.startswith("vitrail: error: ")
        assert self.line.isprintable()
        for text in mentioned:
            assert text in self.line
        return self

    @property
    def line(self) -> str:
        return self.err.splitlines()[-1]


Vitrail = Callable[..., Outcome]


@pytest.fixture
def vitrail(capsys: pytest.CaptureFixture[str]) -> Vitrail:
    """``vitrail(verb, *arguments)`` in this process, as the command line would run it."""

    def run(*arguments: str | Path) -> Outcome:
        _warn_once.cache_clear()
        capsys.readouterr()
        code = main([str(each) for each in arguments])
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny classifier of cats and dogs."""
    folder = tmp_path_factory.mktemp("trained")
    good_folder(folder / "pets")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("VITRAIL_CACHE", str(folder / "cache" / "vitrail"))
        assert main(["train", "pets", "--name", "pets", "--epochs", "1", "--batch-size", "4", *OPTIONS]) == 0
    return folder / "runs" / "pets" / "weights" / "best.safetensors"


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs and indices go to folders of their own; drawing plots is not what is tested here."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("VITRAIL_CACHE", str(tmp_path / "cache" / "vitrail"))
    monkeypatch.setattr("vitrail.report.evaluated.EvaluatedModel.save_plots", lambda *_: None)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "users").mkdir()
    return tmp_path / "users"


def train(vitrail: Vitrail, data: Path, name: str, *options: str, epochs: int = 1, batch_size: int = 3) -> Outcome:
    sizes = ("--epochs", str(epochs), "--batch-size", str(batch_size))
    return vitrail("train", data, "--name", name, *sizes, *OPTIONS, *options)


def snapshot(folder: Path) -> dict[bytes, tuple[int, int, str]]:
    """Mode, time of change and content of everything below."""
    found = {}
    for path in [folder, *folder.rglob("*")]:
        status = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(status.st_mode) else ""
        found[os.fsencode(path)] = (status.st_mode, status.st_mtime_ns, content)
    return found


def powers(case: Case) -> AbstractContextManager[None]:
    return without_root_powers() if case.needs_permissions else nullcontext()


def image_of(case: Case, folder: Path) -> Path:
    """The case's own picture in the data set that was built around it."""
    (path,) = (each for each in (folder / "train" / "cat").iterdir() if not re.fullmatch(r"\d\.png", each.name))
    return path


# pictures --------------------------------------------------------------------------------------------------------


def test_all_kinds_are_there() -> None:
    assert {case.name for case in IMAGES} == set(KINDS)


@pytest.mark.parametrize("case", IMAGES, ids=str)
def test_image(case: Case, root: Path, vitrail: Vitrail, weights: Path, tmp_path: Path) -> None:
    folder = dataset_with(case, root)
    image = image_of(case, folder)
    before = snapshot(root)
    with powers(case):
        go_through = _bad_image if case.expect == "reject" else _good_image
        go_through(case, folder, image, vitrail, weights, tmp_path)
    assert snapshot(root) == before


def _bad_image(case: Case, folder: Path, image: Path, vitrail: Vitrail, weights: Path, tmp_path: Path) -> None:
    wanted = (printable(str(image)), case.cause)
    checked = vitrail("data", "check", folder, "--workers", "0").rejected(*wanted)
    assert wanted[0] in checked.out
    train(vitrail, folder, "strict").rejected(*wanted)
    assert not list(Path("runs/strict/weights").glob("*")), "nothing was trained"

    skipped = train(vitrail, folder, "lenient", "--on-bad", "skip").accepted()
    assert [wanted[0] in line and case.cause in line for line in skipped.err.splitlines() if "left out" in line] == [
        True
    ]
    listed = json.loads(Path("runs/lenient/data.json").read_text())["bad_files"]
    assert case.cause in listed[wanted[0]]
    vitrail("evaluate", "runs/lenient", "--split", "train", "--device", "cpu").rejected(*wanted)
    vitrail("evaluate", "runs/lenient", folder, "--split", "train", "--device", "cpu").rejected(*wanted)

    call = ("predict", weights, image, folder / "val", "--device", "cpu", "--json")
    assert json.loads(vitrail(*call).rejected(*wanted).out) == []
    told = vitrail(*call, "--on-bad", "skip").accepted()
    assert len(json.loads(told.out)) == 8
    assert any(line.startswith(f"  {wanted[0]} ") and case.cause in line for line in told.err.splitlines())
    vitrail("predict", weights, image, "--on-bad", "skip", "--device", "cpu").rejected("none of the 1 pictures")
    vitrail("embed", weights, folder, "--out", tmp_path / "e.npz", "--device", "cpu").rejected(*wanted)
    vitrail("explain", weights, image, "--out", tmp_path / "drawn", "--device", "cpu").rejected(*wanted)
    assert not (tmp_path / "e.npz").exists()
    assert not (tmp_path / "drawn").exists()


def _good_image(case: Case, folder: Path, image: Path, vitrail: Vitrail, weights: Path, tmp_path: Path) -> None:
    shown = printable(str(image))
    outcomes = {
        "check": vitrail("data", "check", folder, "--workers", "0"),
        "train": train(vitrail, folder, "run"),
        "evaluate": vitrail("evaluate", "runs/run", "--split", "train", "--device", "cpu", "--json"),
        "predict": vitrail("predict", weights, image, "--device", "cpu", "--json", "--annotate", tmp_path / "drawn"),
        "embed": vitrail("embed", weights, folder, "--out", tmp_path / "e.npz", "--device", "cpu"),
        "explain": vitrail(
            "explain", weights, image, "--method", "rollout", "--out", tmp_path / "drawn", "--device", "cpu"
        ),
    }
    for outcome in outcomes.values():
        outcome.accepted()
    for verb in ("train", "evaluate", "predict"):
        assert ("warning: an image" in outcomes[verb].err) == (case.expect == "warn"), verb
        assert case.cause in outcomes[verb].err
    assert json.loads(outcomes["evaluate"].out)["images"] == 9
    (item,) = json.loads(outcomes["predict"].out)
    assert item["path"] == shown
    assert len(list((tmp_path / "drawn").iterdir())) == 2


# folders, archives and tables ------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [*SOURCES.values()], ids=str)
def test_source(case: Case, root: Path, vitrail: Vitrail, weights: Path, tmp_path: Path) -> None:
    path = case.build(root)
    before = snapshot(root)
    check = vitrail("data", "check", path, "--workers", "0")
    trained = train(vitrail, path, "run")
    if case.expect == "reject":
        measured = vitrail("evaluate", weights, path, "--out", "out", "--device", "cpu")
        embedded = vitrail("embed", weights, path, "--out", "e.npz", "--device", "cpu")
        for outcome in (check, trained, embedded):
            outcome.rejected(path.name, case.cause)
        if cause := KNOWN_CLASSES.get(case.name, case.cause):
            measured.rejected(path.name, cause)
        else:
            measured.accepted()
    else:
        measured = vitrail("evaluate", "runs/run", "--device", "cpu")
        embedded = vitrail("embed", "runs/run", path, "--out", "e.npz", "--device", "cpu")
        for outcome in (check, trained, measured, embedded):
            outcome.accepted()
            assert case.expect != "warn" or case.cause in outcome.err
        assert case.expect != "report" or case.cause in check.out
    predicted = vitrail("predict", weights, path, "--device", "cpu")
    if path.is_dir() and "link out of" not in case.cause:
        predicted.accepted()  # labels do not matter to it
    else:
        predicted.rejected(path.name)
    assert snapshot(root) == before
    assert not Path("/tmp/evil.png").exists()
    assert not (root.parent / "evil.png").exists()


@pytest.mark.parametrize("policy", ["error", "skip"])
def test_a_file_deleted_while_training(
    root: Path, vitrail: Vitrail, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    """Case 45: gone after the first epoch, met in the second."""
    folder = good_folder(root / "photos")
    file = folder / "train" / "cat" / "0.png"

    def close_epoch(loop: Loop, speed: Row) -> None:
        ended(loop, speed)
        file.unlink(missing_ok=True)

    ended = Loop.close_epoch
    monkeypatch.setattr(Loop, "close_epoch", close_epoch)
    outcome = train(vitrail, folder, "run", "--on-bad", policy, NO_CACHE, epochs=2, batch_size=4)
    assert not file.exists()
    why = f"{file} cannot be read: no such file"
    if policy == "error":
        outcome.rejected(why)
    else:
        outcome.accepted()
        assert outcome.err.count(f"warning: left out: {why}") == 1
        assert json.loads(Path("runs/run/data.json").read_text())["bad_files"].keys() == {str(file)}
        assert json.loads(Path("runs/run/summary.json").read_text())["epochs"] == 2


def test_a_file_deleted_before_it_is_read(
    root: Path, vitrail: Vitrail, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case 45: gone once the verb has listed it."""
    case = next(case for case in CASES if case.name == "file-deleted")
    folder = case.build(root)

    left = [0]

    def opened(config: source.SourceConfig) -> source.Splits:
        splits = open_source(config)
        left[0] -= 1
        if not left[0]:
            case.after_open(folder)
        return splits

    open_source = source.open_source
    for module in ("vitrail.data.source", "vitrail.data", "vitrail.data.inspection.check", "vitrail.report.evaluated"):
        monkeypatch.setattr(f"{module}.open_source", opened)
    for command in (
        ("data", "check", folder, "--workers", "0"),
        ("train", folder, "--epochs", "1", "--batch-size", "3", *OPTIONS, "--set=data.source.val_fraction=0"),
        ("evaluate", weights, folder, "--out", "out", "--device", "cpu"),
        ("embed", weights, folder, "--out", "e.npz", "--device", "cpu"),
    ):
        left[0] = 2 if command[0] == "train" else 1  # it looks at the data before it chooses its settings
        vitrail(*command).rejected(str(folder / "cat" / "0.png"), case.cause)
        (folder / "cat" / "0.png").touch()


def test_a_fifo_never_blocks(root: Path, vitrail: Vitrail, weights: Path) -> None:
    """Case 46: skipped in a folder, refused by name, met in place of a file that was listed."""
    folder = good_folder(root / "photos", splits=())
    pipe = folder / "cat" / "pipe.png"
    os.mkfifo(pipe)
    told = vitrail("predict", weights, folder, "--device", "cpu").accepted().err
    assert "skipped FIFOs, devices or sockets (1)" in told
    for path in (pipe, Path("/dev/zero")):
        vitrail("predict", weights, path, "--device", "cpu").rejected(f"{path} is not a regular file")
    (root / "labels.csv").write_text(
        "path,label\n" + "".join(f"photos/{c}/{i}.png,{c}\n" for c in ("cat", "dog") for i in range(4))
    )
    with (root / "labels.csv").open("a") as table:
        table.write("photos/cat/pipe.png,cat\n")
    data = root / "labels.csv"
    train(vitrail, data, "strict", "--set=data.source.val_fraction=0").rejected(f"{pipe} is not a regular file")
    lenient = train(vitrail, data, "lenient", "--on-bad", "skip", "--set=data.source.val_fraction=0").accepted()
    assert f"left out: {pipe} is not a regular file" in lenient.err


def test_skipping_has_a_budget(root: Path, vitrail: Vitrail) -> None:
    folder = good_folder(root / "photos", num_images=8)
    bad = [folder / "train" / name / f"{i}.png" for name in ("cat", "dog") for i in (1, 5)]
    for file in bad:
        file.write_bytes(b"<html>")
    budget = f"--on-bad=skip {NO_CACHE} --set=data.loader.max_bad={{}}"
    refused = train(vitrail, folder, "few", *budget.format(3).split(), epochs=2, batch_size=8)
    refused.rejected("4 unreadable training images are more than data.loader.max_bad=3")
    enough = train(vitrail, folder, "enough", *budget.format(4).split(), epochs=2, batch_size=8).accepted()
    assert enough.err.count("warning: left out: ") == 4, "each is told once, not once an epoch"
    listed = json.loads(Path("runs/enough/data.json").read_text())["bad_files"]
    assert listed.keys() == {str(file) for file in bad}


def test_validation_never_skips(root: Path, vitrail: Vitrail) -> None:
    folder = good_folder(root / "photos")
    file = folder / "val" / "dog" / "2.png"
    file.write_bytes(file.read_bytes()[:50])
    train(vitrail, folder, "run", "--on-bad", "skip").rejected(f"{file} is cut short")


# as a person runs it ---------------------------------------------------------------------------------------------


def test_a_real_command_line(root: Path, weights: Path) -> None:
    """A name that is no UTF-8, in a terminal that has ASCII only."""
    bad = os.path.join(os.fsencode(root), b"caf\xe9\n.jpg")
    Path(os.fsdecode(bad)).write_bytes(b"<html>")
    command = [sys.executable, "-m", "vitrail", "predict", weights, bad, "--device", "cpu"]
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    Outcome(done.returncode, done.stdout, done.stderr).rejected(r"caf\xe9\n.jpg is an HTML page")
