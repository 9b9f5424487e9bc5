from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from vitrail.data.source import SourceConfig, open_source
from vitrail.errors import UserError

pytestmark = pytest.mark.usefixtures("own_cache")
SYNSETS = [  # the devkit's order, which is not the order of the WordNet numbers
    ("n02119789", "kit fox, Vulpes macrotis", 0),
    ("n02100735", "English setter", 0),
    ("n02110185", "Siberian husky", 0),
    ("n00001740", "entity", 3),  # an inner node of the tree, no class
]
CLASSES = ("n02100735 English setter", "n02110185 Siberian husky", "n02119789 kit fox")
GROUND_TRUTH = [3, 1, 2, 1]


@pytest.fixture(params=["unpacked", "packed"])
def imagenet(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    root, devkit = tmp_path / "imagenet", "ILSVRC2012_devkit_t12"
    fields = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    synsets = np.array([(i + 1, w, words, n) for i, (w, words, n) in enumerate(SYNSETS)], dtype=fields)
    meta = io.BytesIO()
    savemat(meta, {"synsets": synsets.reshape(-1, 1)})
    files = {
        "data/meta.mat": meta.getvalue(),
        "data/ILSVRC2012_validation_ground_truth.txt": "\n".join(map(str, GROUND_TRUTH)).encode() + b"\n",
    }
    for name, content in files.items():
        (root / devkit / name).parent.mkdir(parents=True, exist_ok=True)
        (root / devkit / name).write_bytes(content)
    if request.param == "packed":
        import shutil

        with tarfile.open(root / f"{devkit}.tar.gz", "w:gz") as archive:
            archive.add(root / devkit, devkit)
        shutil.rmtree(root / devkit)
    for k, (wnid, _, children) in enumerate(SYNSETS):
        if not children:
            (root / "train" / wnid).mkdir(parents=True)
            Image.new("RGB", (4, 4), (k, 0, 0)).save(root / "train" / wnid / f"{wnid}_1.JPEG")
    return root


def flat_validation(root: Path) -> None:
    (root / "val").mkdir()
    for i in range(len(GROUND_TRUTH)):
        Image.new("RGB", (4, 4)).save(root / "val" / f"ILSVRC2012_val_{i + 1:08d}.JPEG")


def test_classes_are_sorted_and_the_ground_truth_is_translated(imagenet: Path) -> None:
    flat_validation(imagenet)
    before = sorted(imagenet.rglob("*"))
    splits = open_source(SourceConfig(spec=str(imagenet)))
    assert splits.classes == CLASSES
    for i, target in enumerate(splits.train.targets):
        assert splits.classes[target].split()[0] in splits.train.name(i)
    assert [splits.classes[t].split()[0] for t in splits.val.targets] == [SYNSETS[i - 1][0] for i in GROUND_TRUTH]
    assert sorted(imagenet.rglob("*")) == before


def test_validation_images_in_class_folders(imagenet: Path) -> None:
    (imagenet / "val" / "n02119789").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(imagenet / "val" / "n02119789" / "ILSVRC2012_val_00000009.JPEG")
    assert open_source(SourceConfig(spec=f"imagenet:{imagenet}")).val.targets.tolist() == [2]


def test_what_does_not_belong_is_named(imagenet: Path) -> None:
    flat_validation(imagenet)
    Image.new("RGB", (4, 4)).save(imagenet / "val" / "ILSVRC2012_val_00000005.JPEG")
    with pytest.raises(UserError, match="holds image 5, but the devkit labels 1 to 4"):
        open_source(SourceConfig(spec=str(imagenet)))
    (imagenet / "val" / "ILSVRC2012_val_00000005.JPEG").rename(imagenet / "val" / "extra.JPEG")
    with pytest.raises(UserError, match="a file that is not called"):
        open_source(SourceConfig(spec=str(imagenet)))
    (imagenet / "val" / "extra.JPEG").unlink()
    (imagenet / "train" / "n02119789").rename(imagenet / "train" / "foxes")
    with pytest.raises(UserError, match="is no ILSVRC2012 synset"):
        open_source(SourceConfig(spec=str(imagenet)))


def test_without_the_devkit(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the devkit's data/meta\.mat cannot be read.*fetch"):
        open_source(SourceConfig(spec=f"imagenet:{tmp_path}"))
