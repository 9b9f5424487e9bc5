from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vitrail.data import SourceConfig, decode, open_source
from vitrail.data.inspection.export import export
from vitrail.errors import UserError


def test_an_exported_source_opens_again_with_the_same_pixels_and_labels(tmp_path: Path) -> None:
    test = open_source(SourceConfig(spec="digits")).split("test")
    assert export(test, tmp_path / "digits", limit=40) == 40
    again = open_source(SourceConfig(spec=str(tmp_path / "digits"), val_fraction=0, allow_empty_class=True))
    source = again.split("train")
    assert len(source) == 40
    exported = {(source.classes[t], decode(source.read(i), 1).tobytes()) for i, t in enumerate(source.targets)}
    expected = {(test.classes[test.targets[i]], decode(test.read(i), 1).tobytes()) for i in range(40)}
    assert exported == expected


def test_numbers_become_a_table(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3), dtype=np.uint8)
    np.savez(tmp_path / "numbers.npz", images=images, labels=np.array([[0.5, 1], [2, 3], [4, 5.25], [6, 7]]))
    source = open_source(SourceConfig(spec=str(tmp_path / "numbers.npz"), val_fraction=0)).split("train")
    export(source, tmp_path / "out")
    again = open_source(SourceConfig(spec=str(tmp_path / "out" / "labels.csv"), val_fraction=0)).split("train")
    assert again.kind == "number"
    np.testing.assert_array_equal(again.targets, source.targets)
    assert decode(again.read(2)).tobytes() == images[2].tobytes()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(UserError, match="not empty"):
        export(open_source(SourceConfig(spec="digits")).split("test"), tmp_path, limit=1)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
