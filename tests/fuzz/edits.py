"""Edits of files that know their structure. Each is a function of (bytes, random.Random) → bytes."""

from __future__ import annotations

import io
import json
import random
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any

Edit = Callable[[bytes, random.Random], bytes]

NUMBERS = (0, 1, 2, 3, 127, 128, 255, 256, 32767, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1)
TOKENS = (
    b"", b"-1", b"0", b"1e309", b"-1e30", b"nan", b"inf", b"9" * 40, b"9" * 5000, b"\0", b"\xff\xfe", b"\xed\xa0\x80",
    b"../../etc/passwd", b"/dev/zero", b"a" * 5000, b"[" * 300, b"&a [*a]", b"2020-13-45", b"!!int x", b"<!DOCTYPE a>",
    b"true", b"null", b"os.path", b"\n", b"\t", b";", b",", b"'", b'"',
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, 2**31, 2**63, 2**70, -(2**70), 1e308, -1e308, float("nan"), float("inf"), "", "a",
    "\ud800", "\0", "a\nb", "../../etc/passwd", "x" * 3000, [], {}, [[]], [None], [1, [2]], {"": {}}, [0] * 2000,
    "os.path", "json.decoder", 10**400,
)  # fmt: skip


# bytes


def flip(data: bytes, draw: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 8))):
        if changed:
            changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def cut(data: bytes, draw: random.Random) -> bytes:
    return data[: draw.randrange(len(data) + 1)]


def remove(data: bytes, draw: random.Random) -> bytes:
    start = draw.randrange(len(data) + 1)
    return data[:start] + data[start + draw.choice((1, 2, 4, 16, 200)) :]


def repeat(data: bytes, draw: random.Random) -> bytes:
    start = draw.randrange(len(data) + 1)
    part = data[start : start + draw.choice((1, 2, 4, 16, 200))]
    return data[:start] + part * draw.choice((2, 3, 50)) + data[start:]


def number(data: bytes, draw: random.Random) -> bytes:
    """A number of 1 to 8 bytes at any place."""
    form = draw.choice(("<B", "<H", ">H", "<I", ">I", "<Q", ">Q"))
    packed = struct.pack(form, draw.choice(NUMBERS) % 2 ** (8 * struct.calcsize(form)))
    start = draw.randrange(max(1, len(data) - len(packed)))
    return data[:start] + packed + data[start + len(packed) :]


def early_number(data: bytes, draw: random.Random) -> bytes:
    """The same in the first bytes, where headers are."""
    return number(data[:64], draw) + data[64:]


def token(data: bytes, draw: random.Random) -> bytes:
    """A word of a text becomes another one."""
    words = [(m, len(w)) for m, w in _words(data)]
    start, length = draw.choice(words) if words else (0, 0)
    return data[:start] + draw.choice(TOKENS) + data[start + length :]


def _words(data: bytes) -> Iterator[tuple[int, bytes]]:
    start = 0
    for word in data.replace(b"\n", b" ").replace(b",", b" ").replace(b">", b" ").replace(b"<", b" ").split(b" "):
        yield start, word
        start += len(word) + 1


def line(data: bytes, draw: random.Random) -> bytes:
    """A line goes, comes twice, or changes its place."""
    lines = data.split(b"\n")
    place = draw.randrange(len(lines))
    taken = lines.pop(place)
    for _ in range(draw.choice((0, 1, 2))):
        lines.insert(draw.randrange(len(lines) + 1), taken)
    return b"\n".join(lines)


BYTES: tuple[Edit, ...] = (flip, cut, remove, repeat, number, early_number)
TEXT: tuple[Edit, ...] = (token, token, line, flip, cut, repeat)


# JSON


def json_value(data: bytes, draw: random.Random) -> bytes:
    """A value, a key or an entry anywhere in it changes."""
    try:
        tree = json.loads(data)
    except ValueError:
        return flip(data, draw)
    places = list(_places(tree))
    if not places:
        return json.dumps(draw.choice(VALUES)).encode()
    holder, key = draw.choice(places)
    kind = draw.randrange(5)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[draw.choice(("", "id", "a.b", str(key).upper()))] = holder.pop(key)
    elif kind == 2 and isinstance(holder, list):
        holder.append(holder[key])
    else:
        holder[key] = draw.choice(VALUES)
    return json.dumps(tree).encode()


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    pending = [tree]
    while pending:
        each = pending.pop()
        if isinstance(each, dict | list):
            keys = list(each) if isinstance(each, dict) else range(len(each))
            for key in keys:
                yield each, key
                pending.append(each[key])


# containers


def safetensors_header(data: bytes, draw: random.Random) -> bytes:
    """The JSON changes and the length before it is right again."""
    (length,) = struct.unpack("<Q", data[:8].ljust(8, b"\0"))
    header = json_value(data[8 : 8 + min(length, len(data))], draw)
    return struct.pack("<Q", len(header)) + header + data[8 + length :]


def png_chunk(data: bytes, draw: random.Random) -> bytes:
    """A chunk changes, goes or comes again, with a right checksum."""
    chunks, position = [], 8
    while position + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[position : position + 8])
        chunks.append((kind, data[position + 8 : position + 8 + length]))
        position += 12 + length
    if not chunks:
        return flip(data, draw)
    place = draw.randrange(len(chunks))
    kind, body = chunks[place]
    what = draw.randrange(4)
    if what == 0:
        chunks[place:place] = [(kind, body)] * draw.choice((1, 3, 300))
    elif what == 1:
        del chunks[place]
    else:
        chunks[place] = (kind, draw.choice(BYTES)(body, draw))
    parts = (struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in chunks)
    return data[:8] + b"".join(parts)


def jpeg_segment(data: bytes, draw: random.Random) -> bytes:
    """A segment before the image data changes, goes or comes again, with a right length."""
    segments, position = [], 2
    while data[position : position + 1] == b"\xff" and data[position + 1 : position + 2] not in (b"\xda", b""):
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        segments.append((data[position + 1 : position + 2], data[position + 4 : position + 2 + length]))
        position += 2 + max(length, 2)
    if not segments:
        return flip(data, draw)
    place = draw.randrange(len(segments))
    kind, body = segments[place]
    what = draw.randrange(4)
    if what == 0:
        segments[place:place] = [(kind, body)] * draw.choice((1, 3, 300))
    elif what == 1:
        del segments[place]
    else:
        segments[place] = (kind, draw.choice(BYTES)(body, draw)[:60_000])
    parts = (b"\xff" + k + struct.pack(">H", len(b) + 2) + b for k, b in segments)
    return data[:2] + b"".join(parts) + data[position:]


def zip_member(data: bytes, draw: random.Random) -> bytes:
    """A member changes inside a zip that is right."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    except Exception:  # an earlier edit broke it
        return flip(data, draw)
    buffer = io.BytesIO()
    place = draw.randrange(len(members)) if members else 0
    with zipfile.ZipFile(buffer, "w", draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for number_, (name, content) in enumerate(members):
            if number_ == place:
                content = draw.choice((*BYTES, npy_header, npy_header))(content, draw)
                name = draw.choice((name, name, name, f"../{name}", name.upper(), "\0" + name))
            archive.writestr(name, content)
    return buffer.getvalue()


def npy_header(data: bytes, draw: random.Random) -> bytes:
    """The dictionary at the beginning of a ``.npy`` changes, with a right length."""
    if not data.startswith(b"\x93NUMPY"):
        return flip(data, draw)
    length = int.from_bytes(data[8:10], "little")
    header = data[10 : 10 + length]
    old, new = draw.choice(
        ((b"|u1", b"|O"), (b"<i8", b"<c16"), (b"False", b"True"), (b"(", b"(-1, "), (b"(", b"(9999999999, "),
         (b"<f4", b"<U9"), (b"{", b"{" * 200), (b"'", b""), (b"<f4", b"V2"), (b"shape", b"shap"))
    )  # fmt: skip
    header = header.replace(old, new, 1)
    return data[:8] + struct.pack("<H", len(header) % 65536) + header + data[10 + length :]


def tar_field(data: bytes, draw: random.Random) -> bytes:
    """A field of a header changes, with a right checksum."""
    starts = [place for place in range(0, len(data) - 511, 512) if data[place + 257 : place + 262] == b"ustar"]
    if not starts:
        return flip(data, draw)
    start = draw.choice(starts)
    header = bytearray(data[start : start + 512])
    at, length = draw.choice(((0, 100), (100, 8), (124, 12), (156, 1), (157, 100), (345, 155)))
    if at == 156:
        header[156:157] = draw.choice((b"0", b"1", b"2", b"3", b"5", b"6", b"x", b"g", b"L", b"K", b"S"))
    else:
        header[at : at + length] = draw.choice(TOKENS)[:length].ljust(length, b"\0")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return data[:start] + bytes(header) * draw.choice((1, 1, 1, 40)) + data[start + 512 :]


def edits_for(name: str) -> tuple[Edit, ...]:
    """The edits that suit a file, by its suffix."""
    suffix = name.rpartition(".")[2].lower()
    own: dict[str, tuple[Edit, ...]] = {
        "json": (json_value, json_value, json_value, token, cut, flip),
        "safetensors": (safetensors_header, safetensors_header, early_number, flip, cut),
        "png": (png_chunk, png_chunk, *BYTES),
        "jpg": (jpeg_segment, jpeg_segment, *BYTES),
        "npz": (zip_member, zip_member, *BYTES),
        "zip": (zip_member, zip_member, *BYTES),
        "tar": (tar_field, tar_field, *BYTES),
        "npy": (npy_header, *BYTES),
    }
    text = dict.fromkeys(("csv", "txt", "yaml", "xml", "tsv"), TEXT)
    return (own | text).get(suffix, BYTES)


def open_tar(members: dict[str, bytes]) -> bytes:
    """A tar of these files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()
