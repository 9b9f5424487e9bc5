"""huggingface/pytorch-image-models#2456: an ImageNet model on folders or a table of WordNet numbers.

Siblings looked at: two classes of one name ("crane"), names and numbers in one text, synonyms divided by commas, other
case and underscores, multi-label tables, arrays, a class asked for by name in an explanation, a teacher's classes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file
from small_vits import timm_vit

from vitrail.build import open_checkpoint
from vitrail.data.indexing.names import ClassFinder, classes_beside
from vitrail.data.source import SourceConfig, open_source
from vitrail.errors import UserError
from vitrail.explain import named_output
from vitrail.loading import load
from vitrail.report.evaluated import find_split

ENTRIES = [
    {"wnid": "n02012849", "name": "crane"},
    {"wnid": "n03126707", "name": "crane"},
    {"wnid": "n01440764", "name": "tench, Tinca tinca"},
    {"wnid": "n01484850", "name": "great white shark"},
]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    save_file(timm_vit(depth=1).state_dict(), folder / "model.safetensors")
    (folder / "classes.json").write_text(json.dumps(ENTRIES))
    return folder


def pictures(folder: Path, names: list[str]) -> None:
    for name in names:
        (folder / name).mkdir(parents=True)
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / name / "a.png")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["n01440764", "n02012849", "n03126707"], [2, 0, 1]),
        (["Tinca tinca", "crane (n03126707)", "great_white_shark"], [2, 1, 3]),
        (["Great White Shark", "tench"], [3, 2]),
    ],
)
def test_folders_and_tables(weights: Path, names: list[str], expected: list[int], tmp_path: Path) -> None:
    pictures(tmp_path / "folder", names)
    predictor = load(weights, device="cpu")
    source, _ = find_split(predictor, SourceConfig(spec=str(tmp_path / "folder"), val_fraction=0.0), "train")
    assert sorted(int(value) for value in source.targets) == sorted(expected)
    rows = [f'folder/{name}/a.png,"{name}"' for name in names]
    (tmp_path / "table.csv").write_text("\n".join(["path,label", *rows]))
    source, _ = find_split(predictor, SourceConfig(spec=str(tmp_path / "table.csv"), val_fraction=0.0), "train")
    assert [int(value) for value in source.targets] == expected


def test_a_name_of_two_classes_is_said_to_be(weights: Path, tmp_path: Path) -> None:
    pictures(tmp_path / "folder", ["crane", "tench"])
    predictor = load(weights, device="cpu")
    (tmp_path / "table.csv").write_text("path,label\nfolder/crane/a.png,crane\nfolder/tench/a.png,tench\n")
    for spec in ("folder", "table.csv"):
        with pytest.raises(UserError, match=r"'crane'.* several: crane \(n02012849\), crane \(n03126707\)"):
            find_split(predictor, SourceConfig(spec=str(tmp_path / spec), val_fraction=0.0))


def test_classes_beside_the_data(tmp_path: Path) -> None:
    (tmp_path / "classes.json").write_text(json.dumps(ENTRIES))
    pictures(tmp_path, ["x", "y"])
    (tmp_path / "t.csv").write_text("path,label\nx/a.png,n01484850\ny/a.png,tench\n")
    source = open_source(SourceConfig(spec=str(tmp_path / "t.csv"), val_fraction=0.0)).split("train")
    assert source.targets.tolist() == [3, 2]


def test_the_finder_and_explanations() -> None:
    names = ("n02012849 crane", "bee", "Bee")
    finder = ClassFinder(names)
    assert finder.find("n02012849") == finder.find("Crane") == names[0]
    assert (finder.find("bee"), finder.find("Bee"), finder.find("wasp")) == ("bee", "Bee", "wasp")
    assert finder.matching("BEE") == ["Bee", "bee"]
    assert named_output(names, "crane") == 0
    with pytest.raises(UserError, match="'BEE' is the name of several: Bee, bee"):
        named_output(names, "BEE")


def test_synonyms_are_kept_in_the_weights(weights: Path, tmp_path: Path) -> None:
    predictor = load(weights, device="cpu")
    predictor.save(tmp_path / "ours.safetensors")
    task: Any = open_checkpoint(tmp_path / "ours.safetensors").task
    assert task.names.synonyms == classes_beside(weights).synonyms
