"""`vitrail data convert` from every source to every format: what is read again is what was read before, or a line says
what is left out, or the format refuses and says what would be lost.

Siblings: masks as boxes and as class maps, maps as objects, segments as objects and as maps, class names that tables
take for numbers, separators or levels, images without labels, unknown pixels beside one class.
"""

from __future__ import annotations

import io
from contextlib import redirect_stderr
from pathlib import Path

import numpy as np
import pytest
from builders import coco, halves, levels, opened, picture, write
from every_source import MORE, SOURCES, config_of, few, sums_of

from vitrail import registry
from vitrail.cli import main
from vitrail.data import Source, Splits, open_source
from vitrail.data.inspection.convert import convert, open_to_write
from vitrail.data.media.decode import decode
from vitrail.data.sources import digit_scenes
from vitrail.errors import UserError

SAME, LOST = "", "lost"
OPENED = ("have a box and no outline, such as", "that are no objects are left out", "is read as boxes: no object of")
"""What opening says of objects, not writing."""
OUTCOMES: dict[str, dict[str, str]] = {
    "class": {"csv": SAME},
    "multilabel": {"csv": SAME},
    "number": {"csv": SAME},
    "boxes": {"coco": SAME, "voc": SAME, "yolo": SAME, "csv": SAME},
    "masks": {"coco": SAME, "voc": SAME, "yolo": SAME, "csv": "outlines are left out", "masks": "is left out"},
    "semantic": {"masks": SAME} | dict.fromkeys(("coco", "voc", "yolo"), "is an object") | {"csv": "outlines are"},
    "panoptic": {"coco_panoptic": SAME, "masks": "which object", "csv": "outlines are left out"}
    | dict.fromkeys(("coco", "voc", "yolo"), "stuff are left out"),
    "image": {},
}
"""By the kind of the targets and the format; other formats refuse."""
LESS: dict[tuple[str, str], str] = {
    ("boxes with a crowd", "voc"): "1 crowds became difficult",
    ("boxes with a crowd", "yolo"): "1 crowds and difficult",
    ("boxes with a crowd", "csv"): "1 crowds and difficult",
    ("coco", "voc"): "2 crowds became difficult",
    ("coco", "yolo"): "4 crowds and difficult",
    ("voc", "yolo"): "2 crowds and difficult",
    ("voc", "csv"): "2 crowds and difficult",
    ("coco", "csv"): "4 crowds and difficult",
    ("coco_panoptic", "csv"): "2 crowds and difficult",
    ("coco_panoptic", "voc"): "2 crowds became difficult",
    ("coco_panoptic", "yolo"): "2 crowds and difficult",
    ("cvat", "voc"): "no outline, where Pascal VOC holds an empty mask",
    ("datumaro", "voc"): "no outline, where Pascal VOC holds an empty mask",
    ("label_studio", "voc"): "no outline, where Pascal VOC holds an empty mask",
    ("labelme", "voc"): "no outline, where Pascal VOC holds an empty mask",
    ("labelme", "yolo"): "the boxes of 1 outlines",
    ("via", "voc"): "no outline, where Pascal VOC holds an empty mask",
}
"""Of some sources more than of others is left out."""


def held(source: Source, index: int) -> tuple[bytes, object]:
    """The pixels of an image, and its target in a form that can be compared."""
    image = decode(source.read(index), 3)
    target = source.target_kind.read(source.targets, index)
    if source.kind in ("boxes", "masks"):
        masks = [None] * len(target) if target.masks is None else [each.numpy().tobytes() for each in target.masks]
        parts = zip(
            [source.classes[label] for label in target.labels.tolist()],
            np.round(target.boxes_xyxy.numpy(), 3).tolist(),
            target.crowd.tolist(),
            target.ignored.tolist(),
            masks,
            strict=True,
        )
        return image.tobytes(), sorted(parts, key=repr)
    if source.kind == "panoptic":
        return image.tobytes(), (target.numbers.tolist(), target.labels.tolist(), target.crowd.tolist())
    return image.tobytes(), np.asarray(target).tolist()


def content(splits: Splits) -> dict[str, list[tuple[bytes, object]]]:
    return {split: sorted((held(source, i) for i in range(len(source))), key=repr) for split, source in splits.items()}


@pytest.fixture(autouse=True)
def _few_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digit_scenes, "NUM_SCENES", {"train": 3, "test": 2})
    monkeypatch.setattr(digit_scenes, "_scenes", digit_scenes._scenes.__wrapped__)


@pytest.mark.parametrize("to", registry.names("data.writers"))
@pytest.mark.parametrize("name", [*SOURCES, *MORE])
def test_each_to_each(name: str, to: str, tmp_path: Path) -> None:
    spec, out = (SOURCES | MORE)[name](tmp_path / "data"), tmp_path / "out"
    with sums_of(str(spec), tmp_path / "data"):
        own = open_source(config_of(name, spec))
        expected = LESS.get((name, to), OUTCOMES[own.kind].get(to, LOST))
        said = io.StringIO()
        with redirect_stderr(said):
            found = few(open_to_write(config_of(name, spec), to))
            if expected is LOST:
                with pytest.raises(
                    UserError, match=f"^{to} holds .*, and the data has {own.kind}, which would be lost"
                ):
                    convert(found, out, to)
                assert not out.exists()
                return
            convert(found, out, to)
    again = opened(out, kind=found.kind)
    assert again.classes == found.classes
    warnings = [line for line in said.getvalue().splitlines() if line.startswith("warning")]
    warnings = [line for line in warnings if not any(words in line for words in OPENED)]
    if expected:
        assert sum(expected in line for line in warnings) == 1
    else:
        assert not warnings
    if (name, to) not in LESS or not expected:
        assert content(again) == content(found)


def test_every_source_is_here() -> None:
    assert sorted(SOURCES) == registry.names("data.sources")


@pytest.mark.parametrize(
    ("cells", "kind", "said"),
    [
        ({"1": "1.5", "2": "2.5"}, "class", "are read as number unless kind=class is given"),
        ({"1": "a;b", "2": "c"}, "class", "csv cannot hold these targets"),
        ({"1": "cat", "2": "dog"}, "multilabel", "are read as class unless kind=multilabel is given"),
    ],
)
def test_names_that_a_table_takes_for_something_else(
    cells: dict[str, str], kind: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if kind == "class":
        for file, name in cells.items():
            picture(tmp_path / "data" / name / f"{file}.png")
    else:
        rows = "".join(f"{picture(tmp_path / 'data' / f'{file}.png').name},{name}\n" for file, name in cells.items())
        write(tmp_path / "data" / "labels.csv", f"path,label\n{rows}")
    command = ["data", "convert", str(tmp_path / "data"), str(tmp_path / "out"), "--to", "csv"]
    code = main([*command, "--set", f"kind={kind}"])
    assert said in capsys.readouterr().err
    assert (code, (tmp_path / "out").exists()) == ((2, False) if "cannot" in said else (0, True))


def test_an_image_without_any_of_several_labels(tmp_path: Path) -> None:
    for name in "abc":
        picture(tmp_path / "data" / f"{name}.png")
    write(tmp_path / "data" / "labels.csv", "path,cat,dog\na.png,1,1\nb.png,0,0\nc.png,1,0\n")
    assert main(["data", "convert", str(tmp_path / "data"), str(tmp_path / "out"), "--to", "csv"]) == 0
    assert opened(tmp_path / "out").train.targets.tolist() == [[1, 1], [0, 0], [1, 0]]


def test_unknown_pixels_do_not_become_a_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture(tmp_path / "data" / "images" / "a.jpg")
    levels(tmp_path / "data" / "masks" / "a.png", halves(0, 1))
    splits = opened(tmp_path / "data")
    levels(tmp_path / "data" / "masks" / "a.png", halves(0, 255))
    with pytest.raises(UserError, match="pixels of '0' and unknown ones alone, which would be read as two classes"):
        convert(splits, tmp_path / "out", "masks")


def test_kinds_that_are_asked_for(tmp_path: Path) -> None:
    spec = coco(tmp_path / "data", "ab", outlines=True)
    assert main(["data", "convert", str(spec), str(tmp_path / "out"), "--to", "coco", "--kind", "boxes"]) == 0
    assert opened(tmp_path / "out").kind == "boxes"
    maps = SOURCES["masks"](tmp_path / "maps")
    assert main(["data", "convert", str(maps), str(tmp_path / "parts"), "--to", "coco", "--kind", "masks"]) == 0
    assert opened(tmp_path / "parts").classes == ("sky", "sea", "land")


def test_a_row_of_a_table_gets_the_suffix_of_its_format(tmp_path: Path) -> None:
    splits = opened(SOURCES["huggingface"](tmp_path / "data"))
    convert(splits, tmp_path / "out", "csv")
    assert {file.suffix for file in (tmp_path / "out" / "train").iterdir()} == {".jpg"}
