from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from vitrail import registry
from vitrail.config import from_dict, to_dict
from vitrail.data.source import Source, SourceConfig, Splits, case_twins, open_source, split_called
from vitrail.data.storage.arrays import Arrays
from vitrail.errors import UserError


def numbered(count: int = 20) -> Source:
    images = np.arange(count, dtype=np.uint8)[:, None, None].repeat(4, 1).repeat(4, 2)
    labels = np.arange(count) % 3
    return Arrays(images=images, label="made", targets=labels, kind="class", classes=("a", "b", "c"), channels=1)


def test_a_subset_of_a_subset_reads_the_original_samples() -> None:
    source = numbered()
    part = source.subset(np.array([9, 3, 7, 1])).subset(np.array([2, 0]))
    assert [part.name(i) for i in range(len(part))] == ["made[7]", "made[9]"]
    assert [int(np.asarray(part.read(i))[0, 0]) for i in range(len(part))] == [7, 9]
    assert part.targets.tolist() == [7 % 3, 9 % 3]
    assert part.classes == source.classes
    assert part.channels == 1


def test_unlabelled_keeps_the_images_only() -> None:
    bare = numbered().subset(np.array([4, 2])).unlabelled()
    assert (bare.kind, bare.classes, len(bare.targets), len(bare)) == ("none", (), 0, 2)
    assert int(np.asarray(bare.subset(np.array([1])).read(0))[0, 0]) == 2


def test_a_source_travels_to_a_worker() -> None:
    part = numbered().subset(np.array([5, 6]))
    copy = pickle.loads(pickle.dumps(part))
    assert copy.name(1) == part.name(1)
    np.testing.assert_array_equal(copy.read(1), part.read(1))


def test_counts_and_fingerprint() -> None:
    source = numbered()
    assert source.counts().tolist() == [7, 7, 6]
    assert source.fingerprint() == numbered().fingerprint()
    others = [source.subset(np.arange(19)), source.subset(np.arange(20)[::-1]), source.unlabelled()]
    assert len({source.fingerprint(), *(each.fingerprint() for each in others)}) == 4


def test_digits_are_the_same_on_every_machine() -> None:
    splits = open_source(SourceConfig(spec="digits"))
    assert {name: len(source) for name, source in splits.items()} == {"train": 1295, "val": 142, "test": 360}
    assert splits.test.counts().tolist() == [36, 36, 35, 37, 36, 37, 36, 36, 35, 36]
    assert (splits.kind, splits.classes, splits.channels) == ("class", tuple("0123456789"), 1)
    pixels = np.stack([source.read(i) for _, source in splits.items() for i in range(5)])
    assert (pixels.dtype, pixels.min(), pixels.max()) == (np.uint8, 0, 255)
    names = [source.name(i) for _, source in splits.items() for i in range(len(source))]
    assert len(set(names)) == 1797


def test_digits_hold_scikit_learns_labels_and_images() -> None:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    test = open_source(SourceConfig(spec="digits")).test
    rows = [int(test.name(i)[len("digits[") : -1]) for i in range(len(test))]
    drawn = train_test_split(np.arange(1797), test_size=360, stratify=digits.target, random_state=0)[1]
    assert rows == sorted(drawn.tolist())
    assert test.targets.tolist() == digits.target[rows].tolist()
    pixels = np.stack([test.read(i) for i in range(len(test))])
    assert np.abs(pixels / 255 * 16 - digits.images[rows]).max() < 0.04


def test_the_automatic_split_follows_its_settings(capsys: pytest.CaptureFixture[str]) -> None:
    one, again = (open_source(SourceConfig(spec="digits", val_fraction=0.25)) for _ in range(2))
    other = open_source(SourceConfig(spec="digits", val_fraction=0.25, split_seed=1))
    names = [{s.val.name(i) for i in range(len(s.val))} for s in (one, again, other)]
    assert names[0] == names[1] != names[2]
    assert "val is 25% of train, seed 0" in capsys.readouterr().err
    assert open_source(SourceConfig(spec="digits", val_fraction=0)).val is None
    assert open_source(SourceConfig(spec="digits", labelled=False)).val is None


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("digit", "there is no file, folder or data source 'digit'; did you mean 'digits'"),
        ("phots", "did you mean '.*photos'"),
        ("notes.md", "is no data that Vitrail reads"),
        ("folder", "needs a path; write folder:PATH"),
        ("folder:gone", "there is no folder 'gone'"),
        ("no_such_package.source:x", "no module named"),
    ],
)
def test_specifications_that_lead_nowhere(
    spec: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "notes.md").write_text("hello")
    with pytest.raises(UserError, match=message):
        open_source(SourceConfig(spec=spec))


def test_a_third_partys_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_package").mkdir()
    (tmp_path / "their_package" / "__init__.py").write_text("")
    (tmp_path / "their_package" / "noise.py").write_text(
        "from vitrail.data.sources.digits import load as digits\n"
        "def matches(spec): return False\n"
        "def load(config): return {'test': digits(config)['test']} if config.location == 'x' else {}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    splits = open_source(SourceConfig(spec="their_package.noise:x"))
    assert [name for name, _ in splits.items()] == ["test"]


def test_the_config_survives_json_and_checks_its_values() -> None:
    config = SourceConfig(spec="csv:x.txt", label_columns=("a", "b"), val_fraction=0.2)
    assert from_dict(SourceConfig, to_dict(config)) == config
    assert (config.location, str(config.path)) == ("x.txt", "x.txt")
    with pytest.raises(UserError, match="val_fraction"):
        from_dict(SourceConfig, {"spec": "digits", "val_fraction": 1.0})


def test_split_names_and_case_twins() -> None:
    assert [split_called(name) for name in ("Train", "valid", "TESTING", "cat")] == ["train", "val", "test", None]
    assert case_twins(("cat", "Dog", "dog", "CAT", "bird")) == [("cat", "CAT"), ("Dog", "dog")]


@pytest.mark.parametrize("name", registry.names("data.sources"))
def test_every_source_keeps_the_contract(name: str, tmp_path: Path) -> None:
    module = registry.load("data.sources", name)
    assert module.__doc__
    assert callable(module.load)
    assert module.matches(str(tmp_path / "gone")) is False


def test_splits_speak_for_what_is_there() -> None:
    splits = Splits(test=numbered())
    assert (splits.kind, splits.classes, [name for name, _ in splits.items()]) == ("class", ("a", "b", "c"), ["test"])
