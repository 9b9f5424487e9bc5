"""The contract of a target kind, held against each of them and against one that is defined here."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import is_dataclass, replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from target_examples import EXAMPLES, SIZE, Example
from torch import Tensor
from torchvision.transforms.v2 import functional as moves

from vitrail import registry
from vitrail.config import override
from vitrail.data import (
    Combine,
    Loader,
    LoaderConfig,
    Mix,
    MixConfig,
    Objects,
    ObjectsBatch,
    Preprocess,
    PreprocessConfig,
    SceneAugment,
    SceneAugmentConfig,
    SourceConfig,
    Splits,
    targets,
)
from vitrail.data.inspection.check import check, label_text
from vitrail.data.inspection.drawn import drawn
from vitrail.data.inspection.export import export
from vitrail.data.inspection.stats import stats
from vitrail.data.map_targets import MapTargets
from vitrail.data.segments import Segments, SegmentsBatch
from vitrail.data.storage.arrays import Arrays
from vitrail.data.targets import TargetKind
from vitrail.data.transforms.geometry import ImageGeometry
from vitrail.errors import UserError

FOREIGN = "stranger.depth"
NAMES = [*targets.names(), FOREIGN]
SPATIAL = ["boxes", "masks", "semantic", "panoptic", "image", FOREIGN]
DEPTH = np.linspace(0.25, 9.5, 3 * SIZE[0] * SIZE[1], dtype=np.float32).reshape(3, *SIZE)


class Depth(MapTargets[np.ndarray]):
    """How far each pixel is away, float32 (H, W) in metres; NaN where it is unknown."""

    wording = "depths"
    noun = "depth"
    unknown = float("nan")

    def text(self, column: np.ndarray, index: int, classes: Sequence[str]) -> str:
        return f"{column[index].mean():.1f} m"

    def draw(self, image: Image.Image, target: Tensor, classes: Sequence[str]) -> Image.Image:
        return Image.fromarray((np.asarray(target) * 20).astype(np.uint8))

    def faults(self, column: np.ndarray, index: int, size: tuple[int, int], classes: Sequence[str]) -> Iterator[str]:
        if (column[index] < 0).any():
            yield "has a negative depth"


@pytest.fixture(autouse=True)
def stranger(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package of a third party that brings the kind."""
    for name in ("stranger", FOREIGN):
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None, is_package=name == "stranger")
        module.KIND = Depth(FOREIGN)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, name, module)
    yield
    targets.load.cache_clear()


def example(name: str) -> Example:
    return EXAMPLES[name] if name != FOREIGN else Example(DEPTH, ("depth",), -DEPTH)


def source(name: str, *, bad: bool = False) -> Arrays:
    """Three grey images with the targets of the example."""
    images = np.random.default_rng(0).integers(0, 255, (3, *SIZE), np.uint8)
    case = example(name)
    column = case.bad if bad else case.column
    assert column is not None
    if name == "image":  # pictures are restored from such as show the same
        images = np.asarray(case.column).mean(axis=1).astype(np.uint8)
    return Arrays(images=images, label="x", channels=1, targets=column, kind=name, classes=case.classes)


def assert_equal(one: object, other: object) -> None:
    """Two targets of an image are the same."""
    assert type(one) is type(other)
    if isinstance(one, Objects) and isinstance(other, Objects):
        assert (one.size, one.image_id) == (other.size, other.image_id)
        for name in ("boxes_xyxy", "labels", "crowd", "masks", "difficult", "annotated_areas"):
            assert_equal(getattr(one, name), getattr(other, name))
    elif isinstance(one, Segments) and isinstance(other, Segments):
        assert one.image_id == other.image_id
        for name in ("numbers", "labels", "crowd"):
            assert_equal(getattr(one, name), getattr(other, name))
    elif one is not None:
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def loader(name: str, *, train: bool) -> Loader:
    data, size = source(name), PreprocessConfig(size=(24, 32), channels=1)
    transform = Preprocess(size)
    if train and data.target_kind.spatial:
        transform = SceneAugment(SceneAugmentConfig(scale=(0.5, 0.5)), size, data.target_kind)
    return Loader(data, transform, LoaderConfig(batch_size=3, workers=0), train=train)


@pytest.mark.parametrize("name", NAMES)
def test_a_kind_says_what_it_is(name: str) -> None:
    kind = targets.load(name)
    assert isinstance(kind, TargetKind)
    assert (kind.name, kind.spatial) == (name, name in SPATIAL)
    assert kind.wording
    assert kind.describe(example(name).classes)
    assert targets.check_name(name) == name
    if kind.labelled:
        assert override(SourceConfig(spec="x"), {"kind": name}).kind == name


@pytest.mark.parametrize("name", SPATIAL)
def test_a_part_is_cut_out_as_it_is(name: str) -> None:
    kind, column = targets.load(name), example(name).column
    target = kind.read(column, 1)
    whole = kind.cut_out(target, ImageGeometry.identity(SIZE), 0.5)
    assert_equal(whole, target)
    assert kind.places(target).shape[1] == 4
    part = kind.cut_out(target, ImageGeometry((2, 3, 12, 11), (8, 10), SIZE), 0.0)
    assert kind.size(part) == (8, 10)
    before, after = (kind.parts(each) for each in (target, part))
    for part_name, moved in after.items():
        if part_name != "boxes":
            np.testing.assert_array_equal(np.asarray(moved), np.asarray(before[part_name])[..., 3:11, 2:12])


@pytest.mark.parametrize("name", NAMES)
def test_columns_are_taken_read_and_told_apart(name: str) -> None:
    kind, column = targets.load(name), example(name).column
    some = kind.take(column, np.array([2, 0]))
    for place, index in enumerate((2, 0)):
        assert_equal(kind.read(some, place), kind.read(column, index))
    assert kind.fingerprint(column) == kind.fingerprint(kind.take(column, np.arange(3)))
    assert (kind.fingerprint(some) != kind.fingerprint(column)) == kind.labelled
    assert source(name).fingerprint() == source(name).subset(np.arange(3)).fingerprint()


@pytest.mark.parametrize("name", NAMES)
def test_classes_are_counted_or_numbers_described(name: str) -> None:
    counts, case = source(name).counts(), example(name)
    found = stats(Splits(train=source(name)), workers=0)["train"]
    if counts is None:
        assert found.class_counts == {}
    else:
        assert (counts.dtype, counts.shape) == (np.int64, (len(case.classes),))
        assert list(found.class_counts.values()) == counts.tolist()
        assert counts.sum() == 3
    assert list(found.targets) == (list(case.classes) if name == "number" else [])


@pytest.mark.parametrize("name", NAMES)
def test_there_and_back_again(name: str) -> None:
    kind = targets.load(name)
    geometry = Preprocess(PreprocessConfig(size=(24, 32))).geometry(SIZE)
    for index in range(3):
        target = kind.read(example(name).column, index)
        seen = kind.to_input(target, geometry)
        assert not kind.spatial or kind.size(seen) == (24, 32)
        assert_equal(kind.to_original(seen, geometry), target)


@pytest.mark.parametrize("name", NAMES)
def test_parts_are_moved_and_put_together(name: str) -> None:
    kind = targets.load(name)
    for index in range(3):
        target = kind.read(example(name).column, index)
        parts = kind.parts(target)
        assert bool(parts) == kind.spatial
        assert_equal(kind.from_parts(target, parts, SIZE), target)
        flipped = kind.from_parts(target, {n: moves.horizontal_flip(part) for n, part in parts.items()}, SIZE)
        again = kind.from_parts(
            flipped, {n: moves.horizontal_flip(part) for n, part in kind.parts(flipped).items()}, SIZE
        )
        assert_equal(again, target)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_batches(name: str, train: bool) -> None:
    (batch,) = loader(name, train=train).batches()
    kind, found = targets.load(name), batch.get("targets")
    assert batch["images"].shape == (3, 1, 24, 32)
    if found is None:
        assert not kind.labelled
    elif train and name in ("boxes", "masks"):
        assert isinstance(found, ObjectsBatch)
        assert found.size == (24, 32)
    elif train and name == "panoptic":
        assert isinstance(found, SegmentsBatch)
        assert found.numbers.shape == (3, 24, 32)
        assert not found.numbers[batch["padding"]].any()
        assert sorted(len(each) for each in found) == [0, 1, 2]
    elif train and name == "image":
        assert (found.shape, found.dtype) == ((3, 3, 24, 32), torch.uint8)
        assert not found.permute(0, 2, 3, 1)[batch["padding"]].any()
    elif train and kind.spatial:
        assert found.shape == (3, 24, 32)
        unknown = torch.isnan(found) if name == FOREIGN else found == 255
        assert torch.equal(unknown, batch["padding"])
        assert found.dtype == (torch.float32 if name == FOREIGN else torch.int64)
    else:
        for row, index in enumerate(batch["index"].tolist()):
            original = kind.read(example(name).column, index)
            if kind.spatial:
                assert_equal(found[row], original)
            else:
                assert_equal(found[row].numpy(), np.asarray(original))
    assert ("geometries" in batch) == (kind.spatial and not train)
    if found is not None:
        title, note = kind.caption(found[0], example(name).classes)
        assert isinstance(title + note, str)


def test_float_maps_are_not_truncated() -> None:
    (batch,) = loader(FOREIGN, train=True).batches()
    known = batch["targets"][~batch["padding"]]
    assert (known != known.round()).any()
    assert set(known.tolist()) <= set(DEPTH.ravel().tolist())


@pytest.mark.parametrize("name", NAMES)
def test_faults_are_found_where_they_are(name: str) -> None:
    assert check(Splits(train=source(name)), workers=0).ok
    if name not in SPATIAL:
        return
    report = check(Splits(train=source(name, bad=True)), workers=0)
    assert {finding.index for finding in report.bad} == {0, 1, 2}
    assert all(finding.text.startswith(("has ", "shows another picture")) for finding in report.bad)


@pytest.mark.parametrize("name", NAMES)
def test_samples_are_drawn_and_put_in_words(name: str) -> None:
    pictures = [picture for _, picture in drawn(source(name))]
    assert len(pictures) == 3
    plain = Image.fromarray(source(name).images[0]).convert("RGB")
    changed = pictures[0].size != plain.size or not np.array_equal(pictures[0].convert("RGB"), plain)
    assert changed == (name in SPATIAL)
    assert len({label_text(source(name), i) for i in range(3)}) == (3 if targets.load(name).labelled else 1)


@pytest.mark.parametrize("name", NAMES)
def test_labels_are_exported_or_told_where_to_go(name: str, tmp_path: Path) -> None:
    if name in SPATIAL:
        with pytest.raises(UserError, match="data convert"):
            export(source(name), tmp_path)
        return
    assert export(source(name), tmp_path) == 3
    kind = targets.load(name)
    assert (tmp_path / "labels.csv").exists() == bool(kind.columns(example(name).classes))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in SPATIAL])
def test_targets_are_blended_or_refused(name: str) -> None:
    kind = targets.load(name)
    for config in (MixConfig(mixup=1.0), MixConfig(cutmix=1.0)):
        if kind.mix_fault(mixup=config.mixup > 0, cutmix=config.cutmix > 0):
            with pytest.raises(UserError, match=r"augment\.mix"):
                Mix(config, name, 3)
            continue
        labels = kind.collate([kind.read(example(name).column, i) for i in range(3)])
        assert isinstance(labels, Tensor)
        _, mixed = Mix(config, name, 3)(torch.rand(3, 1, 8, 8), labels, 0)
        assert mixed.dtype == torch.float32
        assert mixed.shape[:1] == (3,)


@pytest.mark.parametrize("name", [*SPATIAL, "stranger.bare"])
def test_targets_are_combined_or_refused(name: str) -> None:
    kind = targets.load(name) if name in SPATIAL else Bare(name)
    settings = {
        "mosaic": name in SPATIAL,
        "copy_paste": name in ("masks", "panoptic"),
        "mixup": name in ("boxes", "masks"),
    }
    for setting, can in settings.items():
        fault = kind.combine_fault(**{each: each == setting for each in settings})
        assert (fault is None) == can
        if fault is not None:
            with pytest.raises(UserError, match=rf"data\.scenes\.{setting} cannot .*; set data\.scenes\.{setting}=0"):
                Combine(SceneAugment(SceneAugmentConfig(**{setting: 0.5}), PreprocessConfig(), kind), 3)
    assert kind.combine_fault(mosaic=False, copy_paste=False, mixup=False) is None
    if name not in SPATIAL:
        return
    height, width = SIZE
    first, second = (kind.read(example(name).column, index) for index in (0, 1))
    both = kind.joined([first, second], [(0, 0), (height, 0)], (2 * height, width))
    assert kind.size(both) == (2 * height, width)
    assert_equal(kind.to_input(both, ImageGeometry((0, 0, width, height), SIZE, (2 * height, width))), first)
    below = kind.to_input(both, ImageGeometry((0, height, width, 2 * height), SIZE, (2 * height, width)))
    assert_equal(below, replace(second, image_id=first.image_id) if is_dataclass(second) else second)


class Bare(Depth):
    """A kind that says nothing about being combined."""

    combine_fault = TargetKind.combine_fault


def test_every_entry_is_a_kind_and_names_are_checked() -> None:
    assert {name.removesuffix("_") for name in registry.names("data.targets")} == set(targets.names())
    with pytest.raises(UserError, match="did you mean 'boxes'"):
        targets.load("boxs")
    with pytest.raises(UserError, match="did you mean 'boxes'"):
        SourceConfig(spec="x", kind="boxs")
    with pytest.raises(UserError, match="labelled=false"):
        SourceConfig(spec="x", kind="none")
    with pytest.raises(UserError, match=r"no module named 'stranger\.height'"):
        targets.load("stranger.height")
    with pytest.raises(UserError, match=r"names the module 'stranger\.height'"):
        registry.refuse_foreign(SourceConfig(spec="x", kind="stranger.height").modules, "run.yaml")


def test_a_table_holds_no_places() -> None:
    with pytest.raises(UserError, match="row 1: labels are no boxes"):
        targets.load("boxes").encode(
            {"train": np.array([1, 2])}, classes=(), columns=(), where=lambda split, i: f"row {i + 1}"
        )
