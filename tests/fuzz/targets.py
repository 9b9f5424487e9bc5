"""What is tried: images, sources, weights and run folders, each with small sound inputs."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import programs
from edits import open_tar
from harness import Files, Target, allowed
from PIL import Image

from vitrail.errors import UserError


@functools.cache
def named(name: str) -> Target:
    """``images``, ``sources``, ``weights`` or ``runs``."""
    return {"images": images, "sources": sources, "weights": weights, "runs": runs}[name]()


NAMES = ("images", "sources", "weights", "runs")


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _picture(side: int = 24) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8))


# images


def images() -> Target:
    from vitrail.data.media.decode import decode
    from vitrail.data.media.originals import open_original, png_bytes
    from vitrail.data.media.png16 import encoded
    from vitrail.data.media.read import read_regular, read_size

    picture = _picture()
    deep = np.asarray(picture.convert("RGBA")).astype(np.uint16) * 250
    exif = Image.Exif()
    exif[274] = 6
    grey16 = Image.fromarray(np.arange(576, dtype=np.uint16).reshape(24, 24) * 99)
    made = {
        "a.jpg": _encoded(picture, "JPEG", exif=exif),
        "progressive.jpg": _encoded(picture, "JPEG", progressive=True),
        "cmyk.jpg": _encoded(picture.convert("CMYK"), "JPEG"),
        "a.png": _encoded(picture, "PNG"),
        "palette.png": _encoded(picture.quantize(16), "PNG", transparency=3),
        "grey16.png": _encoded(grey16, "PNG"),
        "alpha.png": _encoded(picture.convert("RGBA"), "PNG", exif=exif),
        "deep.png": encoded(deep[..., :3], b"profile"),
        "deep_alpha.png": encoded(deep),
        "a.gif": _encoded(picture, "GIF", save_all=True, append_images=[picture.rotate(90)]),
        "a.webp": _encoded(picture, "WEBP"),
        "lossless.webp": _encoded(picture.convert("RGBA"), "WEBP", lossless=True),
        "a.bmp": _encoded(picture, "BMP"),
        "a.tif": _encoded(picture, "TIFF"),
        "lzw.tif": _encoded(picture.convert("CMYK"), "TIFF", compression="tiff_lzw"),
        "pages.tif": _encoded(picture, "TIFF", save_all=True, append_images=[picture]),
        "a.ppm": _encoded(picture, "PPM"),
        "a.pgm": b"P5\n24 24\n1000\n" + bytes(2 * 576),
        "a.npy": _npy(np.asarray(picture)),
        **_with_extras(picture),
    }

    def use(folder: Path) -> None:
        (file,) = folder.iterdir()
        data = read_regular(file)
        for channels in (3, 1, 4):
            with allowed():
                decode(data, channels, warn=lambda text: None)
        with allowed():
            read_size(file)
        with allowed():
            original = open_original(data, 3)
            height, width = original.pixels.shape[1:]
            if height * width <= 4096:
                png_bytes(np.zeros((2 * height, 2 * width, 3), np.uint16), original.form.enlarged(2))

    return Target("images", tuple({name: data} for name, data in made.items()), use)


def _with_extras(picture: Image.Image) -> dict[str, bytes]:
    """Formats whose readers are packages of their own: what is not installed is left out."""
    made: dict[str, bytes] = {}
    grey = np.asarray(picture.convert("L"))
    with contextlib.suppress(ImportError):
        import tifffile

        for name, array, options in (
            ("float.tif", grey.astype(np.float32), {}),
            ("tiles.tif", np.asarray(picture), {"tile": (16, 16), "compression": "zlib"}),
            ("bands.tif", np.moveaxis(np.asarray(picture), 2, 0), {"photometric": "minisblack", "bigtiff": True}),
        ):
            buffer = io.BytesIO()
            tifffile.imwrite(buffer, array, **options)
            made[name] = buffer.getvalue()
    with contextlib.suppress(ImportError):
        import pillow_heif

        buffer = io.BytesIO()
        pillow_heif.from_pillow(picture).save(buffer)
        made["a.heic"] = buffer.getvalue()
    with contextlib.suppress(ImportError):
        made["a.dcm"] = _dicom(grey)
    return made


def _dicom(grey: np.ndarray) -> bytes:
    import pydicom
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    file = Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.file_meta.MediaStorageSOPClassUID = file.SOPClassUID = SecondaryCaptureImageStorage
    file.file_meta.MediaStorageSOPInstanceUID = file.SOPInstanceUID = generate_uid()
    file.Rows, file.Columns = grey.shape
    file.SamplesPerPixel, file.PhotometricInterpretation, file.NumberOfFrames = 1, "MONOCHROME2", 1
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 12, 11, 0
    file.RescaleSlope, file.RescaleIntercept, file.WindowCenter, file.WindowWidth = "1", "0", "128", "256"
    file.PixelData = grey.astype("<u2").tobytes()
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, file, enforce_file_format=True)
    return buffer.getvalue()


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


# sources

KINDS = {"coco": ("auto", "masks"), "yolo": ("auto", "masks"), "table": ("auto", "image"), "zip": ("auto", "image")}


def sources() -> Target:
    from vitrail.data.source import SourceConfig, open_source

    def use(folder: Path) -> None:
        (name,) = (each.name for each in folder.iterdir())
        inner = [each for each in (folder / name).iterdir() if each.suffix in (".csv", ".npz", ".tar", ".zip")]
        spec = inner[0] if inner else folder / name
        exclude = str(folder / name / "exclude.txt") if name == "excluding" else None
        for kind in KINDS.get(name, ("auto",)):
            with allowed():
                splits = open_source(SourceConfig(spec=str(spec), kind=kind, val_fraction=0, exclude=exclude))
                for source in dict(splits.items()).values():
                    source.fingerprint()
                    source.counts()
                    for place in range(min(len(source), 4)):
                        with allowed():
                            source.read(place)
                        with allowed():
                            source.target_kind.read(source.targets, place)

    bases = (
        _coco(),
        _panoptic(),
        _yolo(),
        _voc(),
        _table(),
        _arrays(),
        _shard(),
        _zip(),
        _masks(),
        _pairs(),
        _together(),
    )
    mask = Image.fromarray(np.eye(8, dtype=np.uint8) * 255)
    drawn = programs.data_sets(_encoded(_picture(), "PNG"), _encoded(mask, "PNG"))
    return Target("sources", (*bases, *drawn), use)


def _coco() -> Files:
    segment = [[1, 1, 9, 1, 9, 9]]
    runs = {"size": [24, 24], "counts": [100, 50, 426]}
    objects = [
        {"id": n, "image_id": 1 + n % 2, "category_id": 1 + n % 2, "bbox": [1, 1, 8, 8], "area": 64, "iscrowd": n % 2,
         "segmentation": runs if n % 2 else segment}
        for n in range(4)
    ]  # fmt: skip
    pictures = [{"id": n, "file_name": f"{n}.png", "height": 24, "width": 24} for n in (1, 2)]
    content = {"images": pictures, "annotations": objects, "categories": [{"id": n, "name": f"c{n}"} for n in (1, 2)]}
    data = _encoded(_picture(), "PNG")
    return {"coco/train.json": json.dumps(content).encode(), "coco/1.png": data, "coco/2.png": data}


def _panoptic() -> Files:
    entry = {"image_id": 1, "file_name": "1.png", "segments_info": [{"id": 1, "category_id": 1, "iscrowd": 0}]}
    content = {
        "images": [{"id": 1, "file_name": "1.png", "height": 24, "width": 24}],
        "annotations": [entry],
        "categories": [{"id": 1, "name": "c1", "isthing": 1}],
    }
    return {
        "panoptic/panoptic_train.json": json.dumps(content).encode(),
        "panoptic/panoptic_train/1.png": _encoded(Image.new("RGB", (24, 24), (1, 0, 0)), "PNG"),
        "panoptic/images/1.png": _encoded(_picture(), "PNG"),
    }


def _yolo() -> Files:
    return {
        "yolo/data.yaml": b"path: .\nnames:\n  0: ant\n  1: bee\ntrain: images\nval: [images]\n",
        "yolo/images/1.png": _encoded(_picture(), "PNG"),
        "yolo/images/2.jpg": _encoded(_picture(), "JPEG"),
        "yolo/labels/1.txt": b"0 .5 .5 .2 .2\n1 .1 .1 .9 .1 .9 .9\n",
        "yolo/labels/2.txt": b"1 .5 .5 .2 .2\n",
    }


def _voc() -> Files:
    one = (
        b'<?xml version="1.0" encoding="utf-8"?><annotation><size><width>24</width><height>24</height></size>'
        b"<object><name>ant</name><difficult>0</difficult><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax>"
        b"<ymax>9</ymax></bndbox></object></annotation>"
    )
    return {
        "voc/Annotations/a.xml": one,
        "voc/Annotations/b.xml": one.replace(b"ant", b"bee"),
        "voc/JPEGImages/a.jpg": _encoded(_picture(), "JPEG"),
        "voc/JPEGImages/b.jpg": _encoded(_picture(), "JPEG"),
        "voc/ImageSets/Main/train.txt": b"a\nb\n",
        "voc/classes.json": b'["ant", "bee"]',
    }


def _table() -> Files:
    rows = b"path,label\n1.png,ant\n2.png,bee\n1.png,ant\n"
    data = _encoded(_picture(), "PNG")
    return {"table/t.csv": rows.replace(b"1.png,ant\n", b"", 1), "table/1.png": data, "table/2.png": data}


def _arrays() -> Files:
    buffer = io.BytesIO()
    np.savez(
        buffer, images=np.zeros((4, 8, 8, 3), np.uint8), labels=np.array([0, 1, 0, 1]), classes=np.array(["a", "b"])
    )
    return {"arrays/d.npz": buffer.getvalue()}


def _shard() -> Files:
    data = _encoded(_picture(), "PNG")
    return {
        "shard/s.tar": open_tar({"1.png": data, "1.json": b'{"label": 0}', "2.png": data, "2.json": b'{"label": 1}'})
    }


def _zip() -> Files:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("ant/1.png", "bee/2.png"):
            archive.writestr(name, _encoded(_picture(), "PNG"))
    return {"zip/s.zip": buffer.getvalue()}


def _pairs() -> Files:
    files = {f"pairs/train/hr/{n}.png": _encoded(_picture(24), "PNG") for n in (1, 2)}
    return {**files, **{f"pairs/train/lr/{n}x2.png": _encoded(_picture(12), "PNG") for n in (1, 2)}}


def _together() -> Files:
    files = {f"together/{n}_HR.png": _encoded(_picture(24).convert("RGBA"), "PNG") for n in (1, 2)}
    return {**files, **{f"together/{n}_LR.png": _encoded(_picture(12), "PNG") for n in (1, 2)}}


def _masks() -> Files:
    mask = Image.fromarray(np.eye(24, dtype=np.uint8))
    return {
        "masks/images/1.png": _encoded(_picture(), "PNG"),
        "masks/masks/1.png": _encoded(mask, "PNG"),
        "masks/classes.json": b'["a", "b"]',
    }


# weights


def weights() -> Target:
    import torch

    import vitrail
    from vitrail.checkpoints import foreign, native
    from vitrail.checkpoints.description import Description
    from vitrail.data.transforms.preprocess import PreprocessConfig
    from vitrail.tasks import classification
    from vitrail.vit import ViTConfig

    vit = ViTConfig(image_size=16, patch_size=8, dim=16, depth=1, heads=2, mlp_dim=16)
    task = classification.Task(classification.Config(model=vit, classes=("ant", "bee")))
    preprocess = PreprocessConfig(size=(16, 16))
    bases: list[Files] = []
    with tempfile.TemporaryDirectory() as root, torch.no_grad():
        for parameter in task.parameters():
            parameter.normal_(std=0.2)
        own = Path(root) / "own.safetensors"
        native.save(own, task.state_dict(), native.meta_of(task, preprocess, None))
        bases.append({"own.safetensors": own.read_bytes()})
        description = Description.of(task, preprocess)
        for dialect in ("hf_vit", "timm"):
            with contextlib.suppress(UserError):
                out = foreign.save(dialect, Path(root) / dialect, description, task.state_dict())
                files = [out] if out.is_file() else sorted(each for each in out.iterdir() if each.is_file())
                bases.append({f"{dialect}/{each.name}": each.read_bytes() for each in files})
        arrays = io.BytesIO()
        np.savez(arrays, **{name: value.numpy() for name, value in task.state_dict().items()})
        bases.append({"google.npz": arrays.getvalue()})

    def use(folder: Path) -> None:
        (only,) = folder.iterdir()
        vitrail.load(only, device="cpu")

    return Target("weights", tuple(bases), use)


# run folders


def runs() -> Target:
    from vitrail.report import model_card
    from vitrail.report.run_reader import RunReader
    from vitrail.train import state
    from vitrail.train.folder import RunFolder
    from vitrail.train.loggers import csv as metrics

    base = _finished_run()

    def use(folder: Path) -> None:
        own, reader = RunFolder(folder / "run"), RunReader(folder / "run")
        for step in (
            lambda: own.run(),
            lambda: own.read_summary(),
            lambda: own.reconcile(own.run(), extend=True),
            lambda: metrics.read(folder / "run" / "metrics.csv"),
            lambda: reader.data,
            lambda: reader.history,
            lambda: reader.summary,
            lambda: reader.environment,
            lambda: model_card.render(reader, None),
            lambda: state.load(folder / "run" / "state"),
        ):
            with allowed():
                step()

    return Target("runs", (base,), use)


def _finished_run() -> Files:
    from vitrail.data import DataConfig, LoaderConfig, PreprocessConfig, SourceConfig
    from vitrail.train.loop import fit
    from vitrail.train.run import Run
    from vitrail.vit import ViTConfig

    with tempfile.TemporaryDirectory() as root:
        data = Path(root) / "d.npz"
        data.write_bytes(_arrays()["arrays/d.npz"])
        run = Run(
            data=DataConfig(
                source=SourceConfig(spec=str(data), val_fraction=0.5),
                preprocess=PreprocessConfig(size=8),
                loader=LoaderConfig(batch_size=2, workers=0),
            ),
            model=ViTConfig(image_size=8, patch_size=4, dim=8, depth=1, heads=2, mlp_dim=8),
            task="classification",
            epochs=1,
            precision="fp32",
            device="cpu",
        )
        with contextlib.redirect_stderr(io.StringIO()):
            fit(run, Path(root) / "run")
        files = [each for each in sorted((Path(root) / "run").rglob("*")) if each.is_file() and each.name != ".lock"]
        return {str(each.relative_to(root)): each.read_bytes() for each in files}
