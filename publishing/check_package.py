"""Build sdist and wheel into ``dist/``, and use the wheel as a stranger would, in an environment of its own.

    python publishing/check_package.py                         # as the release does; needs the program `build`
    python publishing/check_package.py --dependencies .venv    # borrows those of an environment; needs hatchling alone

The wheel is built from the sdist. In a folder that holds nothing of the checkout, it runs ``vitrail --version``,
``vitrail --help`` and the steps of ``make demo``. Exit code 0: all of it worked.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DEMO = (
    ("--version",),
    ("--help",),
    ("train", "--recipe", "digits", "--name", "demo"),
    ("evaluate", "runs/demo", "--split", "test"),
    ("data", "export", "digits", "--split", "test", "--limit", "5", "--out", "samples"),
    ("predict", "runs/demo", "samples", "--annotate", "predictions"),
)
EXPECTED = ("runs/demo/report.html", "runs/demo/weights/last.safetensors", "predictions")


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--dependencies", type=Path, metavar="VENV", help="borrow those that it has")
    parser.add_argument("--epochs", metavar="N", help="of the demo's training, which has 100")
    parser.add_argument("--environment", type=Path, metavar="FOLDER", help="keep the new environment here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sdist, wheel = build(options.dependencies)
        require_content(sdist, wheel)
        programs = install(wheel, options.environment or Path(folder) / "environment", options.dependencies)
        work = Path(folder) / "work"
        work.mkdir()
        for step in DEMO:
            epochs = ("--epochs", options.epochs) if step[0] == "train" and options.epochs else ()
            call([programs / "vitrail", *step, *epochs], cwd=work)
        if missing := [name for name in EXPECTED if not (work / name).exists()]:
            sys.exit(f"the demo left no {', '.join(missing)}")
    print(f"{wheel.name} and {sdist.name} in {sdist.parent}: installed and used")


def build(dependencies: Path | None) -> tuple[Path, Path]:
    """The sdist of the checkout, and the wheel of the sdist, in an empty ``dist/``."""
    out = ROOT / "dist"
    shutil.rmtree(out, ignore_errors=True)
    if dependencies is None:
        call([sys.executable, "-m", "build", "--outdir", out, ROOT])
    else:
        hatchling = [sys.executable, "-m", "hatchling", "build", "--directory", out, "--target"]
        call([*hatchling, "sdist"], cwd=ROOT)
        (archive,) = out.glob("*.tar.gz")
        with tempfile.TemporaryDirectory() as folder:
            with tarfile.open(archive) as file:
                file.extractall(folder, filter="data")
            (source,) = Path(folder).iterdir()
            call([*hatchling, "wheel"], cwd=source)
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return sdist, wheel


def require_content(sdist: Path, wheel: Path) -> None:
    """Every file of the package that git has is in both; the wheel has nothing beside it."""
    listed = subprocess.run(["git", "ls-files", "vitrail"], cwd=ROOT, capture_output=True, text=True, check=True)
    tracked = set(listed.stdout.split())
    with tarfile.open(sdist) as file:
        in_sdist = {name.partition("/")[2] for name in file.getnames()}
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = {name for name in archive.namelist() if ".dist-info/" not in name}
    if missing := sorted(tracked - in_sdist) + sorted(tracked - in_wheel):
        sys.exit(f"not packed: {', '.join(missing)}")
    if unknown := sorted(in_wheel - tracked):
        sys.exit(f"packed, but not in git: {', '.join(unknown)}")


def install(wheel: Path, environment: Path, dependencies: Path | None) -> Path:
    """The folder of the programs of a new environment that has the wheel."""
    venv.create(environment, with_pip=True, clear=True)
    python = python_of(environment)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if dependencies is None:
        call([*pip, wheel])
    else:
        call([*pip, "--no-deps", "--no-index", wheel])
        (own, theirs) = (site_packages(each) for each in (environment, dependencies))
        (own / "borrowed.pth").write_text(f"{theirs}\n", encoding="utf-8")  # not its .pth files: no editable vitrail
    return python.parent


def python_of(environment: Path) -> Path:
    """The interpreter of an environment."""
    return environment.absolute() / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def site_packages(environment: Path) -> Path:
    """Where an environment has its libraries."""
    asked = [python_of(environment), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    return Path(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip())


def call(command: Sequence[str | Path], cwd: Path | None = None) -> None:
    """Run it without the checkout on the path of imports; leave with its code if it fails."""
    print("$", *command, flush=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if code := subprocess.run(command, cwd=cwd, env=environment).returncode:
        sys.exit(f"it ended with {code}")


if __name__ == "__main__":
    main()
