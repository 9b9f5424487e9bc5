"""The notebooks run from the first cell to the last, and what each cell ends with can be shown."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SHOWN = ("_repr_html_", "_repr_png_", "__repr__")


def cells(notebook: Path, kind: str = "code") -> list[str]:
    content = json.loads(notebook.read_text(encoding="utf-8"))
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    return ["".join(cell["source"]) for cell in content["cells"] if cell["cell_type"] == kind]


def run(notebook: Path) -> Iterator[object]:
    """The value that each cell ends with, as a notebook shows it."""
    namespace: dict[str, object] = {"__name__": "notebook"}
    for number, code in enumerate(cells(notebook)):
        tree = ast.parse(code)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, f"cell {number}", "exec"), namespace)
        if last is not None:
            yield eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), namespace)


def test_there_are_three_without_outputs():
    assert len(NOTEBOOKS) == 3
    for notebook in NOTEBOOKS:
        content = json.loads(notebook.read_text(encoding="utf-8"))
        assert all(not cell["outputs"] for cell in content["cells"] if cell["cell_type"] == "code")
        ids = [cell["id"] for cell in content["cells"]]
        assert len(ids) == len(set(ids))
        assert cells(notebook, "markdown")[0].startswith("# ")


@pytest.mark.docs
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(notebook, tmp_path, environment):
    done = subprocess.run(
        [sys.executable, __file__, str(notebook)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    shown = done.stdout.splitlines()
    expected = {
        "first_steps": ("_repr_png_", "<iframe", "<train 1,295", "__repr__ 0."),
        "inside_a_prediction": ("_repr_png_", "<table>", "of 100 predictions are the same"),
        "the_model": ("ViTConfig(", "torch.Size([1, 3, 29, 29])", "'red', 'green', 'blue'"),
    }[notebook.stem]
    for text in expected:
        assert any(text in line for line in shown), (text, shown)


if __name__ == "__main__":
    for value in run(Path(sys.argv[1])):
        how = next(name for name in SHOWN if hasattr(value, name))
        print(how, str(getattr(value, how)())[:200].replace("\n", " "))
