"""The corpus of bad input: a builder for every case that a data toolkit must survive, with what is expected of it.

::

    for case in CASES:
        path = case.build(root)      # an image file, or the folder, table or archive to give as data
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

Kind = Literal["image", "folder", "table", "archive"]
Expect = Literal[
    "accept",  # goes through silently
    "warn",  # goes through, and a person is told
    "report",  # goes through, and `data check` tells
    "reject",  # one line that names the file and the cause, exit code 2
]


@dataclass(frozen=True)
class Case:
    """One entry of the corpus.

    Attributes:
        build: makes it in an empty folder; returns the path to give to the toolkit.
        cause: what a rejection or warning must mention.
        golden: the RGB pixels uint8 (H, W, 3) that an accepted image must decode to, within ``tolerance`` levels.
        after_open: something that happens to the data once it is open.
        options: settings of ``SourceConfig`` that belong to the case.
        needs_permissions: only means something to a user without root's powers (see ``without_root_powers``).
    """

    number: int
    name: str
    kind: Kind
    expect: Expect
    build: Callable[[Path], Path]
    cause: str = ""
    golden: Callable[[], np.ndarray] | None = None
    tolerance: int = 0
    after_open: Callable[[Path], None] | None = None
    options: dict[str, Any] = field(default_factory=dict)
    needs_permissions: bool = False

    def __str__(self) -> str:
        return f"{self.number:02d}-{self.name}"


CASES: list[Case] = []


def image_cases() -> list[Case]:
    return [case for case in CASES if case.kind == "image"]


def dataset_with(case: Case, root: Path) -> Path:
    """A two-class image folder with train and val splits, in which the case's image is one of the training images."""
    folder = good_folder(root / "dataset")
    case_root = root / "case"
    case_root.mkdir()
    built = os.fsencode(case.build(case_root))
    os.replace(built, os.path.join(os.fsencode(folder / "train" / "cat"), os.path.basename(built)))
    return folder


def good_folder(folder: Path, *, splits: tuple[str, ...] = ("train", "val"), num_images: int = 4) -> Path:
    """A healthy image folder: cat and dog, random 16 × 16 pictures, all different."""
    draw = np.random.default_rng(7)
    for split in splits or ("",):
        for name in ("cat", "dog"):
            (folder / split / name).mkdir(parents=True)
            for i in range(num_images):
                pixels = draw.integers(0, 256, (16, 16, 3), np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{i}.png")
    return folder


@contextlib.contextmanager
def without_root_powers() -> Iterator[None]:
    """Permissions hold inside, even for root (Linux: the capabilities that override them are set aside)."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this thread
    before = (ctypes.c_uint32 * 6)()  # (effective, permitted, inheritable) × 2
    if libc.capget(header, before):
        raise OSError(ctypes.get_errno(), "capget")
    dropped = (ctypes.c_uint32 * 6)(*before)
    dropped[0] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    if libc.capset(header, dropped):
        raise OSError(ctypes.get_errno(), "capset")
    try:
        yield
    finally:
        libc.capset(header, before)


# pictures and encoders -------------------------------------------------------------------------------------------


def blocks() -> np.ndarray:
    """A 32 × 48 picture of six flat 16 × 16 blocks, which JPEG keeps almost exactly; no symmetry maps it on itself."""
    colors = np.array(
        [[(200, 30, 30), (30, 200, 30), (30, 30, 200)], [(220, 220, 40), (40, 40, 40), (240, 240, 240)]], np.uint8
    )
    return colors.repeat(16, axis=0).repeat(16, axis=1)


def jpeg(pixels: np.ndarray | Image.Image, **options: Any) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    return _encode(image, "JPEG", quality=98, **({"subsampling": 0} | options))


def png(pixels: np.ndarray) -> bytes:
    return _encode(Image.fromarray(pixels), "PNG")


def photo(seed: int = 0, size: tuple[int, int] = (64, 64)) -> np.ndarray:
    """Smooth random colours."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC))


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_file(width: int, height: int, depth: int, color: int, data: bytes, *extra: bytes) -> bytes:
    """A PNG from its parts; ``data`` is the compressed image, ``extra`` chunks stand before it."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    return b"".join(
        [b"\x89PNG\r\n\x1a\n", header, *extra, png_chunk(b"IDAT", data) if data else b"", png_chunk(b"IEND", b"")]
    )


def blank_rows(num_rows: int, row_bytes: int) -> bytes:
    """Compressed scan lines of zeros."""
    packer = zlib.compressobj(9)
    row = bytes(row_bytes + 1)
    block = row * 500
    return b"".join([packer.compress(block) for _ in range(num_rows // 500)] + [packer.flush()])


def _encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def _image(
    number: int,
    name: str,
    content: Callable[[], bytes],
    expect: Expect = "reject",
    *,
    file: str | bytes = "picture.png",
    cause: str = "",
    golden: Callable[[], np.ndarray] | None = None,
    tolerance: int = 0,
    mode: int = 0o644,
) -> None:
    def build(root: Path) -> Path:
        path = os.path.join(os.fsencode(root), os.fsencode(file))
        with open(path, "wb") as stream:
            stream.write(content())
        os.chmod(path, mode)
        return Path(os.fsdecode(path))

    CASES.append(
        Case(
            number,
            name,
            "image",
            expect,
            build,
            cause=cause,
            golden=golden,
            tolerance=tolerance,
            needs_permissions=mode == 0,
        )
    )


# 1-8: broken and misnamed files ----------------------------------------------------------------------------------


def _flipped_bits() -> bytes:
    data = bytearray(jpeg(photo()))
    start = data.index(b"\xff\xda") + 40
    for position in range(start, len(data) - 40, 97):
        if data[position] != 0xFF and data[position - 1] != 0xFF and data[position] ^ 0x10 != 0xFF:
            data[position] ^= 0x10
    return bytes(data)


def _bad_crc() -> bytes:
    data = bytearray(png(photo()))
    data[-14] ^= 1  # the last byte of IDAT's checksum
    return bytes(data)


_image(1, "empty", lambda: b"", file="picture.jpg", cause="0 bytes")
_image(2, "html", lambda: b"<!DOCTYPE html>\n<html><body>404</body></html>", file="picture.jpg", cause="HTML")
_image(3, "jpeg-cut-in-half", lambda: (d := jpeg(photo()))[: len(d) // 2], file="picture.jpg", cause="cut short")
_image(4, "jpeg-without-its-last-2-bytes", lambda: jpeg(photo())[:-2], file="picture.jpg", cause="cut short")
_image(5, "jpeg-with-flipped-bits", _flipped_bits, "accept", file="picture.jpg")
_image(6, "png-cut", lambda: (d := png(photo()))[: len(d) // 2], cause="cut short")
_image(7, "png-bad-checksum", _bad_crc, cause="checksum")
_image(8, "png-named-jpg", lambda: png(photo()), "accept", file="picture.jpg", golden=photo)

# 9-18: colour modes ----------------------------------------------------------------------------------------------

INKS = np.array([[[0, 200, 40, 10], [90, 0, 220, 60]], [[255, 0, 0, 0], [20, 20, 20, 200]]], np.uint8)
INKS = INKS.repeat(16, axis=0).repeat(16, axis=1)


def _cmyk_rgb() -> np.ndarray:
    ink = INKS.astype(np.float64)
    return np.round((255 - ink[..., :3]) * (255 - ink[..., 3:]) / 255).astype(np.uint8)


def _without_adobe_marker(data: bytes) -> bytes:
    start = data.index(b"\xff\xee")
    return data[:start] + data[start + 2 + int.from_bytes(data[start + 2 : start + 4], "big") :]


def _deep(channels: int) -> np.ndarray:
    """16-bit samples (16, 16, C) over the whole range."""
    return np.random.default_rng(3).integers(0, 65536, (16, 16, channels)).astype(np.uint16)


def _deep_png(channels: int) -> bytes:
    rows = _deep(channels).astype(">u2").reshape(16, -1)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    return png_file(16, 16, 16, {1: 0, 3: 2}[channels], data)


def _rgb_of(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey.reshape(*grey.shape[:2], 1), 3, axis=2)


def _float_tiff() -> bytes:
    return _encode(Image.fromarray(np.random.default_rng(0).random((8, 8), np.float32)), "TIFF")


PALETTE = [255, 0, 0, 0, 255, 0, 0, 0, 255, 90, 60, 30]
INDICES = np.random.default_rng(4).integers(0, 4, (12, 10), np.uint8)


def _palette_png(**options: Any) -> bytes:
    image = Image.frombytes("P", (10, 12), INDICES.tobytes())
    image.putpalette(PALETTE)
    return _encode(image, "PNG", **options)


def _palette_rgb() -> np.ndarray:
    return np.array(PALETTE, np.uint8).reshape(-1, 3)[INDICES]


def _palette_on_white() -> np.ndarray:
    rgb = _palette_rgb()
    rgb[INDICES == 0] = 255  # the transparent red
    return rgb


def _with_alpha(channels: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (12, 10, channels), np.uint8)


def _on_white(channels: int) -> np.ndarray:
    pixels = _with_alpha(channels).astype(np.float64)
    color, alpha = pixels[..., :-1], pixels[..., -1:] / 255
    return np.broadcast_to(np.round(color * alpha + 255 * (1 - alpha)), (12, 10, 3)).astype(np.uint8)


BITS = np.random.default_rng(6).integers(0, 2, (12, 10)).astype(bool)

_image(
    9,
    "cmyk-jpeg",
    lambda: _without_adobe_marker(jpeg(Image.frombytes("CMYK", (32, 32), (255 - INKS).tobytes()))),
    "accept",
    file="picture.jpg",
    golden=_cmyk_rgb,
    tolerance=3,
)
_image(
    10,
    "adobe-inverted-cmyk-jpeg",
    lambda: jpeg(Image.frombytes("CMYK", (32, 32), INKS.tobytes())),
    "accept",
    file="picture.jpg",
    golden=_cmyk_rgb,
    tolerance=3,
)
_image(11, "16-bit-grey", lambda: _deep_png(1), "accept", golden=lambda: _rgb_of((_deep(1) >> 8).astype(np.uint8)))
_image(12, "16-bit-rgb", lambda: _deep_png(3), "accept", golden=lambda: (_deep(3) >> 8).astype(np.uint8))
_image(13, "float-tiff", _float_tiff, file="picture.tif", cause="floating-point")
_image(14, "palette", _palette_png, "accept", golden=_palette_rgb)
_image(15, "palette-with-transparency", lambda: _palette_png(transparency=0), "accept", golden=_palette_on_white)
_image(16, "rgba", lambda: png(_with_alpha(4)), "accept", golden=lambda: _on_white(4), tolerance=1)
_image(17, "grey-with-alpha", lambda: png(_with_alpha(2)), "accept", golden=lambda: _on_white(2), tolerance=1)
_image(18, "1-bit", lambda: png(BITS), "accept", golden=lambda: _rgb_of(BITS * np.uint8(255)))

# 19-25: orientation, frames, shapes ------------------------------------------------------------------------------

_TO_STORED = {  # what the camera stored, for each orientation, of the upright picture
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.swapaxes(0, 1),
    6: lambda p: p.swapaxes(0, 1)[::-1],
    7: lambda p: p.swapaxes(0, 1)[::-1, ::-1],
    8: lambda p: p.swapaxes(0, 1)[:, ::-1],
}


def _oriented(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return jpeg(np.ascontiguousarray(_TO_STORED[orientation](blocks())), exif=exif.tobytes())


def _frames(kind: str, **options: Any) -> bytes:
    frames = [Image.fromarray(np.roll(blocks(), shift, axis=1)) for shift in (0, 16, 32)]
    return _encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)


for _orientation in _TO_STORED:
    _image(
        19,
        f"exif-orientation-{_orientation}",
        lambda orientation=_orientation: _oriented(orientation),
        "accept",
        file="picture.jpg",
        golden=blocks,
        tolerance=3,
    )
_image(
    20,
    "corrupt-exif",
    lambda: jpeg(blocks(), exif=b"Exif\0\0MM\0*\xff\xff\xff\xff" + bytes(range(90))),
    "warn",
    file="picture.jpg",
    cause="EXIF",
    golden=blocks,
    tolerance=3,
)
_image(21, "animated-gif", lambda: _frames("GIF", duration=50), "accept", file="picture.gif", golden=blocks)
_image(22, "animated-png", lambda: _frames("PNG"), "accept", golden=blocks)
_image(22, "animated-webp", lambda: _frames("WEBP", lossless=True), "accept", file="picture.webp", golden=blocks)
_image(23, "multi-page-tiff", lambda: _frames("TIFF"), "warn", file="picture.tiff", cause="pages", golden=blocks)
_image(24, "1x1", lambda: png(photo(size=(1, 1))), "accept", golden=lambda: photo(size=(1, 1)))
_image(25, "1x10000", lambda: png(photo(size=(1, 10000))), "accept", golden=lambda: photo(size=(1, 10000)))

# 26-34: bombs, refused formats, metadata, names ------------------------------------------------------------------

_EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"
_PSD = b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 8, 8, 8, 3) + bytes(220)
_PDF = b"%PDF-1.4\n1 0 obj <<>> endobj\ntrailer <<>>\n%%EOF\n"
_SVG = b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>\n'
_BOMB = zlib.compress(bytes(64_000_000), 9)


def _with_chunk(chunk: bytes) -> bytes:
    data = png(photo())
    return data[:33] + chunk + data[33:]


_image(26, "header-of-10000x10000", lambda: png_file(10000, 10000, 8, 2, b""), cause="10000 × 10000")
_image(26, "header-of-6000x6000", lambda: png_file(6000, 6000, 8, 2, zlib.compress(b"")), cause="cut short")
_image(27, "20000x20000", lambda: png_file(20000, 20000, 1, 0, blank_rows(20000, 2500)), cause="20000 × 20000")
_image(28, "13000x13000-in-160-kB", lambda: png_file(13000, 13000, 8, 0, blank_rows(13000, 13000)), cause="limit")
_image(29, "eps", lambda: _EPS, file="picture.eps", cause="PostScript")
_image(29, "psd", lambda: _PSD, file="picture.psd", cause="Photoshop")
_image(29, "pdf", lambda: _PDF, file="picture.pdf", cause="PDF")
_image(29, "eps-named-png", lambda: _EPS, cause="PostScript")
_image(30, "svg", lambda: _SVG, file="picture.svg", cause="SVG")
_image(31, "huge-text-chunk", lambda: _with_chunk(png_chunk(b"zTXt", b"Comment\0\0" + _BOMB)), "accept", golden=photo)
_image(31, "huge-icc-chunk", lambda: _with_chunk(png_chunk(b"iCCP", b"profile\0\0" + _BOMB)), "accept", golden=photo)
_image(
    32,
    "progressive-jpeg",
    lambda: jpeg(blocks(), progressive=True),
    "accept",
    file="picture.jpg",
    golden=blocks,
    tolerance=3,
)
for _name, _file in {"non-ascii": "é中.png", "emoji": "🐱.png", "newline": "a\nb.png"}.items():
    _image(33, f"{_name}-in-path", lambda: png(photo()), "accept", file=_file, golden=photo)
_image(34, "non-utf8-name", lambda: png(photo()), "accept", file=b"caf\xe9\xff.png", golden=photo)
_image(47, "unreadable", lambda: png(photo()), cause="permission", mode=0)

# 35-46: folders and archives -------------------------------------------------------------------------------------


def _folder(
    number: int,
    name: str,
    change: Callable[[Path], None],
    expect: Expect = "reject",
    *,
    splits: tuple[str, ...] = (),
    cause: str = "",
    after_open: Callable[[Path], None] | None = None,
) -> None:
    def build(root: Path) -> Path:
        folder = good_folder(root / "photos", splits=splits)
        change(folder)
        return folder

    CASES.append(Case(number, name, "folder", expect, build, cause=cause, after_open=after_open))


def _outside(folder: Path, *, directory: bool) -> None:
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "secret.png").write_bytes(png(photo(9)))
    link = folder / "cat" / ("more" if directory else "secret.png")
    link.symlink_to(elsewhere if directory else elsewhere / "secret.png")


def _drop(folder: Path, name: str) -> None:
    for file in (folder / name).iterdir():
        file.unlink()
    (folder / name).rmdir()


def _add(folder: Path, name: str, seed: int = 1) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(png(photo(seed)))


def _nest(folder: Path) -> None:
    for name in ("cat", "dog"):
        _drop(folder, name)
        for leaf in ("small", "large"):
            for i in range(3):
                _add(folder, f"{name}/{leaf}/{i}.png", hash((name == "cat", leaf == "small", i)) % 1000)


def _same_bytes(folder: Path) -> None:
    (folder / "dog" / "copy.png").write_bytes((folder / "cat" / "0.png").read_bytes())


_folder(35, "symlink-loop", lambda f: (f / "cat" / "again").symlink_to(f), "accept")
_folder(36, "symlink-to-a-file-outside", lambda f: _outside(f, directory=False), cause="link out of")
_folder(36, "symlink-to-a-folder-outside", lambda f: _outside(f, directory=True), cause="link out of")
_folder(39, "empty-class", lambda f: (f / "bird").mkdir(), cause="allow-empty-class")
_folder(40, "one-class", lambda f: _drop(f, "dog"), cause="one class")
_folder(40, "images-in-the-root", lambda f: _add(f, "stray.png"), cause="outside any class folder")
_folder(
    41, "class-absent-from-training", lambda f: _add(f, "val/zebra/0.png"), splits=("train", "val"), cause="'zebra'"
)
_folder(42, "same-leaf-under-two-parents", _nest, cause="two levels of folders")
_folder(42, "images-beside-nested-folders", lambda f: _add(f, "cat/more/9.png"), cause="class_level")
_folder(43, "same-bytes-under-two-labels", _same_bytes, "report", cause="different labels")
_folder(44, "classes-that-differ-by-case", lambda f: _add(f, "Cat/0.png"), "warn", cause="case")
_folder(
    45,
    "file-deleted",
    lambda f: None,
    cause="no such file",
    after_open=lambda f: (f / "cat" / "0.png").unlink(),
)
_folder(46, "fifo", lambda f: os.mkfifo(f / "cat" / "pipe.png"), "accept")
_folder(46, "link-to-a-device", lambda f: (f / "cat" / "zero.png").symlink_to("/dev/zero"), cause="link out of")


def _tar(entries: Callable[[tarfile.TarFile], None]) -> Callable[[Path], Path]:
    def build(root: Path) -> Path:
        with tarfile.open(root / "shard.tar", "w") as archive:
            for i in range(4):
                add_to_tar(archive, f"{i}.png", png(photo(i)))
                add_to_tar(archive, f"{i}.cls", str(i % 2).encode())
            entries(archive)
        return root / "shard.tar"

    return build


def _zip(entries: Callable[[zipfile.ZipFile], None]) -> Callable[[Path], Path]:
    def build(root: Path) -> Path:
        with zipfile.ZipFile(root / "photos.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for i in range(4):
                archive.writestr(f"{'cat' if i % 2 else 'dog'}/{i}.png", png(photo(i)))
            entries(archive)
        return root / "photos.zip"

    return build


def add_to_tar(archive: tarfile.TarFile, name: str, content: bytes = b"", **fields: Any) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in fields.items():
        setattr(info, key, value)
    archive.addfile(info, io.BytesIO(content))


def _zip_link(archive: zipfile.ZipFile) -> None:
    info = zipfile.ZipInfo("cat/link.png")
    info.external_attr = 0o120777 << 16
    archive.writestr(info, "/etc/passwd")


def _zip_twice(archive: zipfile.ZipFile) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns about exactly this
        archive.writestr("cat/1.png", png(photo(77)))


def _archive(number: int, name: str, build: Callable[[Path], Path], cause: str) -> None:
    CASES.append(Case(number, name, "archive", "reject", build, cause=cause))


for _kind, _member in {"dot-dot": "../evil.png", "absolute": "/tmp/evil.png"}.items():
    _archive(37, f"tar-{_kind}", _tar(lambda a, n=_member: add_to_tar(a, n, png(photo(8)))), "leads out")
    _archive(37, f"zip-{_kind}", _zip(lambda a, n=_member: a.writestr(n, png(photo(8)))), "leads out")
_archive(
    37, "tar-symlink", _tar(lambda a: add_to_tar(a, "9.png", type=tarfile.SYMTYPE, linkname="/etc/passwd")), "link"
)
_archive(37, "tar-hard-link", _tar(lambda a: add_to_tar(a, "9.png", type=tarfile.LNKTYPE, linkname="0.png")), "link")
_archive(37, "tar-device", _tar(lambda a: add_to_tar(a, "9.png", type=tarfile.CHRTYPE)), "device")
_archive(37, "zip-symlink", _zip(_zip_link), "link")
_archive(38, "zip-bomb", _zip(lambda a: a.writestr("cat/bomb.png", bytes(150_000_000))), "limit")
_archive(
    38,
    "zip-of-many-bombs",
    _zip(lambda a: [a.writestr(f"cat/{i}.bmp", bytes(60_000_000)) for i in (90, 91, 92)]),
    "expand",
)
_archive(38, "zip-duplicate-member", _zip(_zip_twice), "twice")
_archive(38, "tar-duplicate-member", _tar(lambda a: add_to_tar(a, "0.png", png(photo(77)))), "twice")
_archive(38, "tar-pickle", _tar(lambda a: add_to_tar(a, "0.pkl", b"\x80\x04N.")), "pickle")

# 48: tables ------------------------------------------------------------------------------------------------------


_NAMES, _INDICES, _NUMBERS = ["cat", "cat", "dog", "dog"], ["0", "0", "1", "1"], ["1.5", "2.5", "0.25", "4.0"]


def _table(name: str, row: str, labels: list[str], *, classes: bool = False) -> None:
    def build(root: Path) -> Path:
        good_folder(root, splits=())
        paths = ["cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png"]
        rows = [f"{path},{label}" for path, label in zip(paths, labels, strict=True)]
        (root / "labels.csv").write_text("\n".join(["path,label", *rows, row]) + "\n")
        if classes:
            (root / "classes.json").write_text('["cat", "dog"]')
        return root / "labels.csv"

    CASES.append(Case(48, f"csv-{name}", "table", "reject", build, cause="row 6"))


_table("label-missing", "dog/2.png,", _NAMES)
_table("label-nan", "dog/2.png,nan", _NAMES)
_table("label-out-of-range", "dog/2.png,7", _INDICES, classes=True)
_table("label-negative", "dog/2.png,-1", _INDICES)
_table("label-unknown", "dog/2.png,cow", _NAMES, classes=True)
_table("number-nan", "dog/2.png,nan", _NUMBERS)
_table("number-infinite", "dog/2.png,inf", _NUMBERS)
_table("duplicated", "cat/0.png,cat", _NAMES)
CASES.sort(key=lambda case: case.number)
