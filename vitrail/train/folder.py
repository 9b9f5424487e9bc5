"""A run's folder: its files, its lock, and whether a command may begin or continue the run in it.

::

    config.yaml     the run, every auto resolved        weights/{best,last,soup}.safetensors  self-contained
    command.txt     one line per session                state/                           for resuming
    env.json        versions, hardware, commit, threads    plots/, report.html              by the report
    data.json       hash, classes, counts, bad files        adapter/{best,last}/           with lora, PEFT's files
    metrics.csv     one row per epoch
    summary.json    the result; it appears when the training is complete
    members/        further trainings, with members: each is a run's folder
"""

from __future__ import annotations

import os
import platform
import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from vitrail import config as configs
from vitrail import files, locks, registry
from vitrail.config import to_dict
from vitrail.console import note, warn
from vitrail.data.pixel_state import READ, State, compare
from vitrail.errors import UserError
from vitrail.train.commit import checked_out
from vitrail.train.run import Run, differences, keep_resolved
from vitrail.version import __version__

MOVED = ("data.source.spec:", "data.source.root:")
"""Settings that may differ where a run continues on data that was moved."""


class RunFolder:
    """The files of one run."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.state = self.path / "state"
        self.summary = self.path / "summary.json"
        self._lock: IO[str] | None = None
        self._begun = time.monotonic()

    def weights(self, name: str) -> Path:
        """``best``, ``last``, or of several members ``soup``."""
        return self.path / "weights" / f"{name}.safetensors"

    def run(self) -> Run:
        """The run as it was begun.

        Raises:
            UserError: there is none here, or it names modules to load.
        """
        if not self.config.exists():
            raise UserError(f"{self.path} holds no run (no config.yaml); give a folder that `vitrail train` made")
        run = self._saved()
        registry.refuse_foreign(run.entries, str(self.config))
        return run.without_permissions

    def _saved(self) -> Run:
        """The run as the config has it, whatever modules it names."""
        return configs.load(Run, self.config).resolved

    def read_summary(self) -> dict[str, Any] | None:
        """The result, or None while the training is not complete."""
        if not self.summary.exists():
            return None
        summary = files.read_json(self.summary)
        if type(summary.get("epochs", 1)) is not int:
            raise UserError(f"{self.summary} has epochs that are no integer; restore or remove it")
        return summary

    def add_evaluation(self) -> dict[str, Any] | None:
        """Copy the metrics of evaluation/test.json (or val) to the summary, which marks the report as written."""
        found = (self.path / "evaluation" / f"{split}.json" for split in ("test", "val", "train"))
        file = next((path for path in found if path.exists()), None)
        content = files.read_json(file) if file is not None else None
        evaluation = {key: content[key] for key in ("split", "images", "metrics")} if content else None
        files.write_json(self.summary, (self.read_summary() or {}) | {"evaluation": evaluation})
        return evaluation

    def awaits_report(self, run: Run) -> bool:
        """Whether the training of this same run is complete, and only its evaluation is missing."""
        summary = self.read_summary()
        return (
            summary is not None
            and "evaluation" not in summary
            and run.epochs == self._saved().epochs
            and not differences(to_dict(self._saved()), to_dict(run.resolved))
        )

    def claim(self) -> None:
        """Lock the folder for training until this process ends, however it ends.

        Raises:
            UserError: another process does.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = open(self.path / ".lock", "w", opener=files.no_link)  # noqa: SIM115  open as long as the claim
            try:
                locks.try_lock(lock)
            except BaseException:
                lock.close()
                raise
            self._lock = lock
        except BlockingIOError:
            raise UserError(
                f"another process is training in {self.path}; wait for it or choose another --name"
            ) from None
        except OSError as error:
            raise UserError(f"cannot write to {self.path}: {error.strerror}; choose another place") from None

    def release(self) -> None:
        """Unlock the folder; remove it if nothing was written to it."""
        if self._lock is not None:
            empty = [path.name for path in self.path.iterdir()] == [".lock"]
            if empty and os.name == "posix":  # before it is unlocked, when nobody else can have begun here
                files.remove(self.path)
            self._lock.close()
            if empty and os.name != "posix":  # Windows removes no open file
                files.remove(self.path)
            self._lock = None

    def reconcile(self, run: Run, *, extend: bool) -> Run:
        """The run to train here: ``run``, with what the run that the folder already holds resolved ``auto`` to.

        Args:
            extend: the user resumes, so the number of epochs may differ.

        Raises:
            UserError: the folder holds a finished run, or another one.
        """
        run = run.resolved
        if not self.config.exists():
            return run
        saved = self._saved()
        registry.refuse_foreign(saved.entries - run.entries, str(self.config))
        changed = differences(to_dict(saved), to_dict(run))
        if extend:
            # data that was moved is compared by its hash when the run begins
            changed = [line for line in changed if not line.startswith(("epochs:", *MOVED))]
        if changed:
            more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
            raise UserError(
                f"{self.path} holds another run ({'; '.join(changed[:3])}{more}); "
                f"choose another --name, or continue that one with --resume {self.path}"
            )
        if (summary := self.read_summary()) is not None:
            epochs = summary.get("epochs", saved.epochs)
            if not (extend and run.epochs > epochs):
                raise UserError(
                    f"{self.path} is complete with {epochs} epochs; choose another --name, "
                    f"or extend it with --resume {self.path} --epochs {epochs + saved.epochs}"
                )
        return configs.from_dict(Run, keep_resolved(to_dict(saved), to_dict(run)))

    def begin(self, run: Run, data: dict[str, Any], *, resumed: bool) -> None:
        """Write config, environment, data and command. From now on the run is not complete."""
        self._begun = time.monotonic()
        if resumed and (known := self.path / "data.json").exists():
            before = files.read_json(known)
            same = "content_sha256" if "content_sha256" in before else "sha256"
            if before.get(same) != data[same]:
                raise UserError(
                    f"the data is not what {self.path} was trained on (its hash has changed); "
                    "restore it, or begin another run with --init " + str(self.path)
                )
            self._check_pixels(before.get("pixels"), data["pixels"])
            data["bad_files"] = before.get("bad_files", {}) | data["bad_files"]
        files.remove(self.summary)
        files.remove(self.weights("soup"))  # the average of all members, which are trained anew or further
        configs.save(run, self.config)
        files.write_json(self.path / "env.json", environment())
        files.write_json(self.path / "data.json", data)
        files.append(self.path / "command.txt", _command() + "\n")

    def _check_pixels(self, before: object, now: Mapping[str, State]) -> None:
        """Raises UserError where images have changed; runs of earlier versions do not know theirs."""
        if not isinstance(before, dict) or not all(isinstance(each, dict) for each in before.values()):
            return
        verdict = compare(before, now)
        if verdict == "changed":
            raise UserError(
                f"the images are not those that {self.path} was trained on: their sizes or contents have changed; "
                f"restore them, begin another run with --init {self.path}, or, if they may differ, remove "
                '"pixels" from its data.json'
            )
        if verdict == "touched":
            warn(
                f"the files of the images have other times than when {self.path} was begun; {READ} of each split were "
                "compared and are the same"
            )

    def note_bad(self, bad_files: dict[str, str]) -> None:
        """Add unreadable training files and their causes to ``data.json``."""
        data = files.read_json(self.path / "data.json")
        if bad_files.keys() - data["bad_files"].keys():
            data["bad_files"] |= bad_files
            files.write_json(self.path / "data.json", data)

    def finish(self, summary: Mapping[str, object]) -> None:
        """Write the summary, which marks the run as complete; it is on disk when this returns.

        Of a run of one session it holds the time from its beginning to its end, evaluation and saving included.
        """
        sessions = (self.path / "command.txt").read_text(encoding="utf-8", errors="replace").count("\n")
        took = {"command_seconds": round(time.monotonic() - self._begun, 3)} if sessions == 1 else {}
        files.write_json(self.summary, {**summary, **took})
        note(f"{self.path}: complete")


def environment() -> dict[str, object]:
    """What the numbers of a run may depend on besides its config."""
    from importlib.metadata import PackageNotFoundError, version

    import torch

    versions = {"vitrail": __version__, "python": platform.python_version()}
    for name in ("torch", "torchvision", "numpy", "pillow", "safetensors"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "absent"
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return {
        "versions": versions,
        "platform": platform.platform(),
        "cpu": capabilities.get("cpu_name", platform.processor()),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "world_size": int(os.environ.get("WORLD_SIZE", 1)),
        "git_commit": checked_out(Path.cwd()),
    }


def _command() -> str:
    """The command of this process, as one would type it again."""
    program = Path(sys.argv[0])
    ours = program.stem == "vitrail" or program.parts[-2:] == ("vitrail", "__main__.py")
    return shlex.join(["vitrail" if ours else sys.argv[0], *sys.argv[1:]])
