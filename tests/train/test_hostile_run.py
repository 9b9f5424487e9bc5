"""Run folders and repositories that lie, and data that changes between two sessions."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny import tiny_run, write_data

from vitrail.cli import main
from vitrail.data.pixel_state import compare, state_of
from vitrail.data.source import SourceConfig, open_source
from vitrail.errors import UserError
from vitrail.report.run_reader import RunReader
from vitrail.train.commit import checked_out
from vitrail.train.folder import RunFolder, environment
from vitrail.train.loop import fit

# git


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With one commit, and a config that runs a program whenever git looks for changes."""
    monkeypatch.chdir(tmp_path)
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    _git("init", "--quiet", ".")
    _git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--allow-empty", "-m", "one")
    spy = tmp_path / "spy"
    spy.write_text(f"#!/bin/sh\ntouch {tmp_path}/canary\n")
    spy.chmod(0o755)
    with (tmp_path / ".git" / "config").open("a") as file:
        file.write(f"[core]\n\tfsmonitor = {spy}\n\tpager = {spy}\n\thooksPath = {tmp_path}\n")
    return tmp_path


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout.strip()


def test_the_commit_is_read_without_running_what_the_repository_names(repository: Path) -> None:
    commit = environment()["git_commit"]
    assert not (repository / "canary").exists()
    assert commit == _git("rev-parse", "HEAD")
    below = repository / "a" / "b"
    below.mkdir(parents=True)
    assert checked_out(below) == commit


def test_commits_of_packed_branches_and_worktrees(repository: Path) -> None:
    commit = _git("rev-parse", "HEAD")
    _git("pack-refs", "--all")
    assert checked_out(repository) == commit
    _git("worktree", "add", "--quiet", "-b", "other", str(repository / "tree"))
    assert checked_out(repository / "tree") == commit
    _git("checkout", "--quiet", "--detach")
    assert checked_out(repository) == commit


@pytest.mark.parametrize("head", ["", "ref: ../../etc/passwd", "ref: refs/heads/../../../secret", "\0", "0" * 39])
def test_a_strange_head_is_none(head: str, tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "secret").write_text("a" * 40)
    (tmp_path / ".git" / "HEAD").write_text(head)
    assert checked_out(tmp_path) is None


def test_a_head_that_is_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    os.mkfifo(tmp_path / ".git" / "HEAD")
    assert checked_out(tmp_path) is None


# pixels that change


def _interrupted(folder: Path, data: Path) -> Any:
    """A run of two epochs that begins again after the first."""
    run = tiny_run(data, epochs=2)
    fit(run, folder)
    RunFolder(folder).summary.unlink()
    return run


def test_pixels_that_were_replaced_are_noticed_on_resuming(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    run = _interrupted(tmp_path / "run", data)
    with np.load(data / "train.npz") as arrays:
        images, labels = arrays["images"], arrays["labels"]
    images[17, 3, 3] += 1
    np.savez(data / "train.npz", images=images, labels=labels)
    with pytest.raises(UserError, match=r"the images are not those that .* was trained on"):
        fit(run, tmp_path / "run")
    content = json.loads((tmp_path / "run" / "data.json").read_text())
    del content["pixels"]  # as the message says, and as runs of earlier versions are
    (tmp_path / "run" / "data.json").write_text(json.dumps(content))
    assert fit(run, tmp_path / "run").exit_code == 0


def test_data_that_was_copied_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_data(tmp_path / "data")
    run = _interrupted(tmp_path / "run", data)
    shutil.copytree(data, tmp_path / "copy")
    shutil.rmtree(data)
    (tmp_path / "copy").rename(data)
    capsys.readouterr()
    assert fit(run, tmp_path / "run").exit_code == 0
    assert "other times" not in capsys.readouterr().err  # an array has no times


def _picture_folder(root: Path) -> Path:
    draw = np.random.default_rng(0)
    for name in ("ant", "bee"):
        (root / name).mkdir(parents=True)
        for place in range(40):
            Image.fromarray(draw.integers(0, 256, (8, 8, 3), np.uint8)).save(root / name / f"{place}.bmp")
    return root


def _states(spec: Path) -> dict[str, dict[str, str]]:
    return {name: state_of(source) for name, source in open_source(SourceConfig(spec=str(spec))).items()}


@pytest.mark.parametrize("how", ["same", "touched", "changed", "changed quietly"])
def test_what_happened_to_files(how: str, tmp_path: Path) -> None:
    root = _picture_folder(tmp_path / "photos")
    before = _states(root)
    for place, file in enumerate(sorted(root.rglob("*.bmp"))):
        if how == "touched":
            os.utime(file)
        elif how == "changed quietly":  # the same size
            file.write_bytes(file.read_bytes()[:-2] + bytes([place, 77]))
        elif how == "changed" and place == 3:
            file.write_bytes(file.read_bytes() + b"!")
    assert compare(before, _states(root)) == how.removesuffix(" quietly")


def test_maps_that_change_are_noticed_too(tmp_path: Path) -> None:
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
        Image.new("L", (8, 8), 1).save(tmp_path / name / "a.png")
    before = _states(tmp_path)
    Image.effect_noise((8, 8), 9).save(tmp_path / "masks" / "a.png")
    assert compare(before, _states(tmp_path)) == "changed"


# run folders


@pytest.fixture(scope="module")
def finished(bands: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "run"
    fit(tiny_run(bands, epochs=1), folder)
    return folder


BROKEN = {
    "no YAML": "a: [",
    "a text": "hello",
    "nothing": "",
    "an empty mapping": "{}",
    "a list": "[1, 2]",
    "a mapping of nonsense": "task: 3\nmodel: x\ndata: []\n",
    "a bomb": "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\n"
    "d: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e]\n",
    "a month 13": "task: 2020-13-45\n",
    "depth": "a: " + "[" * 3000,
    "bytes": "\udcff\udcfe\0",
}
VERBS = ["evaluate", "report", "train --resume"]


def _call(verb: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    name, *options = verb.split()
    capsys.readouterr()
    assert main([name, *options, str(folder), *(["--device", "cpu"] if name == "evaluate" else [])]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_config_is_one_line_in_every_verb(
    case: str, verb: str, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    (folder / "config.yaml").write_bytes(BROKEN[case].encode("utf-8", "surrogateescape"))
    assert "config.yaml" in _call(verb, folder, capsys)


@pytest.mark.parametrize("verb", VERBS[1:])  # the weights name the task that is evaluated
@pytest.mark.parametrize("name", ["os.path", "json.decoder", "numpy.linalg"])
def test_a_config_names_no_module_that_happens_to_be_there(
    name: str, verb: str, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("task: classification", f"task: {name}"))
    assert name in _call(verb, folder, capsys)


READ = {"data.json": "dataset", "summary.json": "summary", "metrics.csv": "history", "command.txt": "commands"}


@pytest.mark.timeout(20, func_only=True)
@pytest.mark.parametrize("file", [*READ, "config.yaml"])
def test_a_fifo_in_a_run_folder_is_not_waited_for(file: str, finished: Path, tmp_path: Path) -> None:
    """It is as a file that was not written yet, and the others are read."""
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    reader = RunReader(folder)
    (folder / file).unlink()
    os.mkfifo(folder / file)
    for name, attribute in READ.items():
        found = getattr(reader, attribute)
        assert str(found) == str(getattr(RunReader(finished), attribute)) if name != file else not found
    if file == "config.yaml":
        with pytest.raises(UserError, match=r"config\.yaml"):
            _ = reader.config
        with pytest.raises(UserError, match=r"config\.yaml"):
            RunFolder(folder).run()
    else:
        assert reader.config == RunReader(finished).config
        assert RunFolder(folder).run() == RunFolder(finished).run()
    if file == "summary.json":
        with pytest.raises(UserError, match=r"cannot read .*summary\.json"):
            RunFolder(folder).read_summary()


@pytest.mark.parametrize("text", ["{}", "[]", '{"classes": 3}', '{"counts": {}}', "{", '{"source": {"spec": [1]}}'])
def test_broken_facts_are_one_line_in_a_report(
    text: str, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    (folder / "data.json").write_text(text)
    if text != "{}":
        assert "data.json" in _call("report", folder, capsys)
