"""A user's file type-checks: the package ships its types."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import vitrail

ROOT = Path(vitrail.__file__).parent
USER = """
from pathlib import Path

import vitrail
from vitrail.evaluation import EvaluationLoader
from vitrail.predictor import Predictor
from vitrail.tasks.classification import Prediction, Task


def one(run: Path) -> str:
    predictor = vitrail.load(run, device="cpu")
    print(predictor.predict("a.jpg").to_dict(), predictor.embed("a.jpg").shape)
    for prediction in predictor.predict(["a.jpg", "b.jpg"], batch_size=2):
        prediction.draw(predictor.picture("a.jpg")).save("drawn.png")
    for image, result in predictor.stream(run.iterdir()):
        print(image, result if isinstance(result, vitrail.UserError) else result.to_dict(top=3))
    return ", ".join(predictor.classes)


def classes(task: Task, predictor: Predictor[Prediction], images: list[Path]) -> list[str]:
    made = vitrail.Predictor(task, predictor.preprocess.config)
    return [made.predict("a.jpg").label, *(prediction.label for prediction in predictor.predict(images))]


def measure(task: Task, loader: EvaluationLoader) -> float:
    return vitrail.evaluate(task, loader).metrics["top1"]
"""


@pytest.fixture
def user(tmp_path: Path) -> Path:
    file = tmp_path / "user.py"
    file.write_text(USER)
    return file


def test_types_ship() -> None:
    assert (ROOT / "py.typed").is_file()


def test_a_users_file_passes_mypy(user: Path) -> None:
    pytest.importorskip("mypy")
    command = [sys.executable, "-m", "mypy", "--strict", "--ignore-missing-imports", "--follow-imports=silent"]
    found = _run([*command, f"--cache-dir={user.parent / 'cache'}", str(user)])
    assert found.returncode == 0, found.stdout + found.stderr


def test_a_users_file_passes_pyright(user: Path) -> None:
    if importlib.util.find_spec("pyright") is None or shutil.which("node") is None:
        pytest.skip("pyright, or the node that it runs in, is not installed")
    (user.parent / "pyrightconfig.json").write_text(json.dumps({"extraPaths": [str(ROOT.parent)]}))
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "-p", str(user.parent)]
    found = _run(command)
    assert found.returncode == 0, found.stdout + found.stderr


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """In the folder of the package, so that this one is found."""
    return subprocess.run(command, cwd=ROOT.parent, capture_output=True, text=True, timeout=280, check=False)
