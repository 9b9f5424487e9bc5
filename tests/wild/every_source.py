"""A small data set in the layout of every source, with crowds, difficult objects, holes, odd names and three splits
where the layout has such things."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from builders import BOX, OUTLINE, SIZE, coco, halves, levels, picture, write, xml
from test_layouts_of_programs import label_studio, labelme, via_regions

from vitrail.data import SourceConfig, Splits

SPLITS = ("train", "val", "test")
RING = [14, 4, 26, 4, 26, 17, 14, 17]
CROWD = {"size": list(SIZE), "counts": [45, 6, 549]}


def folder(root: Path) -> Path:
    for split in SPLITS:
        for name in ("cat & dog", "bee", "10"):
            picture(root / split / name / f"{split} 1.png", seed=len(split) + len(name))
    return root


def packed(root: Path) -> Path:
    inner = folder(root / "inner")
    with zipfile.ZipFile(root / "photos.zip", "w") as archive:
        for file in sorted(inner.rglob("*.png")):
            archive.write(file, file.relative_to(inner))
    return root / "photos.zip"


def table(root: Path) -> Path:
    """Several labels an image, or none."""
    cells = {"a": "cat|dog", "b": "dog", "c": "cat|dog|a bee", "d": "cat", "e": "dog|cat"}
    for name in cells:
        picture(root / f"{name}.jpg")
    rows = [f"{name}.jpg,{cell},{'val' if name == 'd' else 'train'}\n" for name, cell in cells.items()]
    return write(root / "labels.csv", "path,label,split\n" + "".join(rows))


def numbers(root: Path) -> Path:
    images = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3), np.uint8)
    root.mkdir()
    np.savez(root / "data.npz", images=images, labels=np.array([[0.5, 1], [2, 1 / 3], [4, 5.25], [6, -7]]))
    return root / "data.npz"


def shards(root: Path) -> Path:
    root.mkdir()
    with tarfile.open(root / "val-000.tar", "w") as val, tarfile.open(root / "train-000.tar", "w") as train:
        for number, archive in enumerate((train, train, val)):
            content = picture(root / "x.jpg", seed=number).read_bytes()
            for suffix, data in (("jpg", content), ("txt", b"cat" if number else b"dog")):
                member = tarfile.TarInfo(f"{number:03}.{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    (root / "x.jpg").unlink()
    return root


def hub(root: Path) -> Path:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["zebra", "ant"])})
    pictures = [picture(root / "x.jpg", seed=number).read_bytes() for number in range(2)]
    rows = {"image": [{"bytes": content, "path": None} for content in pictures], "label": [1, 0]}
    data = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict({"train": data, "validation": data}).save_to_disk(str(root / "saved"))
    return root / "saved"


def imagenet(root: Path) -> Path:
    from scipy.io import savemat

    fields = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    rows = [(1, "n02119789", "kit fox", 0), (2, "n02100735", "English setter", 0)]
    kit = root / "ILSVRC2012_devkit_t12" / "data"
    kit.mkdir(parents=True)
    savemat(kit / "meta.mat", {"synsets": np.array(rows, dtype=fields).reshape(-1, 1)})
    write(kit / "ILSVRC2012_validation_ground_truth.txt", "2\n1\n")
    for number, (_, wnid, *_) in enumerate(rows, start=1):
        picture(root / "train" / wnid / f"{wnid}_1.JPEG")
        picture(root / "val" / f"ILSVRC2012_val_{number:08}.JPEG")
    return root


def scenes(root: Path) -> Path:
    """COCO's instances: outlines of two rings, a crowd, a difficult object, an image without any, ids with gaps."""
    for split in ("train2017", "val2017"):

        def change(content: dict[str, Any]) -> None:
            first, second, *_ = content["annotations"]
            first.update(segmentation=[OUTLINE, RING], bbox=[2, 3, 24, 14])
            second.update(ignore=1)
            crowd = {"id": 70, "image_id": 2, "category_id": 1, "bbox": [2, 5, 1, 6], "iscrowd": 1}
            content["annotations"][2:] = [crowd | {"segmentation": CROWD}]

        coco(root, "abc", file=f"annotations/instances_{split}.json", images=split, change=change, outlines=True)
    return root


def boxes_alone(root: Path) -> Path:
    return coco(root, "abc", change=lambda content: content["annotations"][1].update(iscrowd=1))


def segments(root: Path) -> Path:
    entries: dict[str, Any] = {"images": [], "annotations": []}
    entries["categories"] = [{"id": 9, "name": "cat", "isthing": 1}, {"id": 4, "name": "sky", "isthing": 0}]
    for number, name in enumerate("ab", start=1):
        picture(root / "train2017" / f"{name}.png")
        ids = np.zeros((*SIZE, 3), np.uint8)
        ids[:9], ids[12:16, 4:9], ids[15:, 20:] = (7, 1, 0), (5, 0, 0), (44, 0, 0)
        levels(root / "annotations" / "panoptic_train2017" / f"{name}.png", ids)
        parts = [{"id": 263, "category_id": 4}, {"id": 5, "category_id": 9}, {"id": 44, "category_id": 9, "iscrowd": 1}]
        image = {"id": number, "file_name": f"{name}.png", "height": SIZE[0], "width": SIZE[1]}
        entries["images"].append(image)
        entries["annotations"].append({"image_id": number, "file_name": f"{name}.png", "segments_info": parts})
    write(root / "annotations" / "panoptic_train2017.json", json.dumps(entries))
    return root


def voc(root: Path) -> Path:
    for split in ("train", "val"):
        picture(root / "JPEGImages" / f"my {split}.jpg")
        text = xml("dog", "cat").replace("<bndbox>", "<difficult>1</difficult><bndbox>", 1)
        write(root / "Annotations" / f"my {split}.xml", text)
        write(root / "ImageSets" / "Main" / f"{split}.txt", f"my {split}\n")
    return root


def yolo(root: Path) -> Path:
    for split, line in (("train", "1 0.5 0.5 0.2 0.4\n"), ("valid", "0 0.1 0.1 0.5 0.1 0.5 0.7\n"), ("test", "")):
        picture(root / split / "images" / f"{split}.jpg")
        write(root / split / "labels" / f"{split}.txt", line)
    settings = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnames: ['10', cat]\n"
    write(root / "data.yaml", settings)
    return root


def cvat(root: Path) -> Path:
    shapes = """<box label="dog" xtl="2" ytl="3" xbr="11" ybr="11.5"/><polygon label="cat" points="2,3;11,3;11,11"/>"""
    images = "".join(
        f'<image id="{i}" name="{name}.jpg" subset="{split}" width="30" height="20">{shapes}</image>'
        for i, (name, split) in enumerate([("a", "Train"), ("b", "Validation")])
    )
    write(root / "annotations.xml", f"<annotations><meta/>{images}</annotations>")
    for name in "ab":
        picture(root / "images" / f"{name}.jpg")
    return root


def datumaro(root: Path) -> Path:
    for split in ("train", "val"):
        picture(root / "images" / split / "a.jpg", seed=len(split))
        annotations = [{"type": "bbox", "bbox": BOX, "label_id": 0, "group": 0}]
        annotations += [{"type": "mask", "rle": {"size": list(SIZE), "counts": [40, 5, 555]}, "label_id": 1}]  # type: ignore[dict-item]
        item = {"id": "a", "annotations": annotations, "image": {"path": "a.jpg", "size": list(SIZE)}}
        labels = [{"name": "dog"}, {"name": "cat"}]
        content = {"categories": {"label": {"labels": labels}}, "items": [item]}
        write(root / "annotations" / f"{split}.json", json.dumps(content))
    return root


def studio(root: Path) -> Path:
    box = {"x": 10, "y": 10, "width": 20, "height": 50, "rotation": 0, "rectanglelabels": ["cat"]}
    for name in "ab":
        picture(root / "images" / f"{name}.jpg")
    write(
        root / "project.json", label_studio(box, {"points": [[10, 10], [30, 10], [30, 60]], "polygonlabels": ["dog"]})
    )
    return root


def via(root: Path) -> Path:
    picture(root / "a.jpg")
    regions = via_regions(**{"class": "cat"})
    write(root / "via.json", json.dumps({"a": {"filename": "a.jpg", "size": 1, "regions": regions}}))
    return root


def box_rows(root: Path) -> Path:
    for name in "abc":
        picture(root / f"{name}.jpg")
    rows = "a.jpg,cat,2,3,11.5,11\na.jpg,dog,2,3,9,8\nb.jpg,dog,1,1,9,8\nc.jpg,,,,,\n"
    return write(root / "t.csv", f"filename,class,xmin,ymin,xmax,ymax\n{rows}")


def maps(root: Path) -> Path:
    for split in ("train", "val"):
        picture(root / "images" / split / "a.jpg", seed=len(split))
        pixels = halves(0, 2)
        pixels[4:9], pixels[15:] = 1, 255
        levels(root / "masks" / split / "a.png", pixels)
    write(root / "classes.json", json.dumps(["sky", "sea", "land"]))
    return root


def levelled(root: Path) -> Path:
    """Grey levels of classes without names."""
    pixels = halves(0, 120)
    pixels[4:9] = 240
    picture(root / "images" / "a.jpg")
    levels(root / "masks" / "a.png", pixels)
    return root


def a_mask_each(root: Path) -> Path:
    picture(root / "images" / "a.jpg")
    levels(root / "masks" / "a_cat_1.png", halves(255, 0))
    levels(root / "masks" / "a_cat_2.png", halves(0, 255))
    return root


def pairs(root: Path) -> Path:
    picture(root / "hr" / "a.png", size=(40, 60))
    picture(root / "lr" / "a.png")
    return root


def mnist(root: Path, name: str) -> str:
    def idx(file: str, array: np.ndarray) -> None:
        path = root / name / "raw" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        sides = struct.pack(f">{array.ndim}I", *array.shape)
        path.write_bytes(struct.pack(">HBB", 0, 8, array.ndim) + sides + array.tobytes())

    for part in ("train", "t10k"):
        idx(f"{part}-images-idx3-ubyte", np.random.default_rng(len(part)).integers(0, 256, (10, 28, 28), np.uint8))
        idx(f"{part}-labels-idx1-ubyte", np.arange(10, dtype=np.uint8))
    return f"{'mnist' if name == 'MNIST' else 'fashion_mnist'}:{root}"


def cifar(root: Path, spec: str) -> str:
    from torchvision import datasets

    dataset = getattr(datasets, spec.upper())
    key = "labels" if spec == "cifar10" else "fine_labels"
    (root / dataset.base_folder).mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (10, 3072), np.uint8)
    for name, _ in (*dataset.train_list, *dataset.test_list):
        (root / dataset.base_folder / name).write_bytes(pickle.dumps({"data": pixels, key: list(range(10))}))
    names = pickle.dumps({dataset.meta["key"]: [f"class {i}" for i in range(10)]})
    (root / dataset.base_folder / dataset.meta["filename"]).write_bytes(names)
    return f"{spec}:{root}"


@contextmanager
def sums_of(spec: str, root: Path) -> Iterator[None]:
    """torchvision expects the sums of the files that lie there."""
    from torchvision import datasets

    if not spec.startswith("cifar"):
        yield
        return
    dataset = getattr(datasets, spec.partition(":")[0].upper())

    def md5(name: str) -> str:
        return hashlib.md5((root / dataset.base_folder / name).read_bytes()).hexdigest()

    changes: dict[str, Any] = {
        listed: [[name, md5(name)] for name, _ in getattr(dataset, listed)] for listed in ("train_list", "test_list")
    }
    changes["meta"] = dataset.meta | {"md5": md5(dataset.meta["filename"])}
    with mock.patch.multiple(dataset, **changes):
        yield


Builder = Callable[[Path], Path | str]
SOURCES: dict[str, Builder] = {
    "box_table": box_rows,
    "cifar10": lambda root: cifar(root, "cifar10"),
    "cifar100": lambda root: cifar(root, "cifar100"),
    "coco": scenes,
    "coco_panoptic": segments,
    "csv": table,
    "cvat": cvat,
    "datumaro": datumaro,
    "digit_scenes": lambda root: "digit_scenes",
    "digit_scenes_panoptic": lambda root: "digit_scenes_panoptic",
    "digits": lambda root: "digits",
    "fashion_mnist": lambda root: mnist(root, "FashionMNIST"),
    "folder": folder,
    "huggingface": hub,
    "imagenet": imagenet,
    "label_studio": studio,
    "labelme": lambda root: labelme(root),
    "masks": maps,
    "mnist": lambda root: mnist(root, "MNIST"),
    "npz": numbers,
    "pairs": pairs,
    "sample_photos": lambda root: "sample_photos",
    "several_masks": a_mask_each,
    "shards": shards,
    "via": via,
    "voc": voc,
    "yolo": yolo,
    "zip": packed,
}
MORE: dict[str, Builder] = {"boxes with a crowd": boxes_alone, "grey levels": levelled}
"""Others of the same sources."""


def few(splits: Splits) -> Splits:
    """Every split with three of its images at most."""
    return Splits(**{split: source.subset(np.arange(min(3, len(source)))) for split, source in splits.items()})


def config_of(name: str, spec: object) -> SourceConfig:
    kind = "image" if name in ("pairs", "sample_photos") else "auto"
    return SourceConfig(spec=str(spec), val_fraction=0, kind=kind)
