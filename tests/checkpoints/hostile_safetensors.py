"""safetensors files that lie."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from spoiling import CANARY, FIRST, Call, Spoil, weights


def header(folder: Path, change: Callable[[dict[str, Any]], object], body: bytes = b"") -> None:
    """Change the header, and add bytes at the end."""
    data = weights(folder).read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    content = json.loads(data[8:end])
    change(content)
    rewrite(folder, json.dumps(content), data[end:] + body)


def rewrite(folder: Path, text: str, body: bytes) -> None:
    weights(folder).write_bytes(len(text.encode()).to_bytes(8, "little") + text.encode() + body)


def overwrite(path: Path, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.write(data)


def text_of(folder: Path) -> tuple[str, bytes]:
    data = weights(folder).read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    return data[8:end].decode(), data[end:]


def entry(**changes: Any) -> Spoil:
    return lambda folder: header(folder, lambda content: content[FIRST].update(changes))


def _header_ends_early(folder: Path) -> None:
    text, body = text_of(folder)
    rewrite(folder, text[: len(text) // 2], body)


def _overlapping(folder: Path) -> None:
    def overlap(content: dict[str, Any]) -> None:
        names = [name for name in content if name != "__metadata__"]
        second = content[names[1]]["data_offsets"]
        content[names[1]]["data_offsets"] = [second[0] - 4, second[1] - 4]

    header(folder, overlap)


def _gap(folder: Path) -> None:
    def widen(content: dict[str, Any]) -> None:
        for name, item in content.items():
            if name != "__metadata__":
                item["data_offsets"] = [n + 64 for n in item["data_offsets"]]

    header(folder, widen, b"\0" * 64)


def _duplicate(folder: Path) -> None:
    text, body = text_of(folder)
    again = json.dumps({FIRST: json.loads(text)[FIRST]})[1:-1]
    rewrite(folder, f"{{{again}, {text[1:]}", body)


def _nan_in_header(folder: Path) -> None:
    text, body = text_of(folder)
    assert "[1,1,32]" in text
    rewrite(folder, text.replace("[1,1,32]", "[1,NaN,32]", 1), body)


def _deep(folder: Path) -> None:
    text, body = text_of(folder)
    rewrite(folder, f'{{"x": {"[" * 100_000}{"]" * 100_000}, {text[1:]}', body)


def _sparse(folder: Path) -> None:
    """A gigabyte that takes no room on disk, claimed by one tensor."""
    _, body = text_of(folder)
    offsets = [len(body), len(body) + 2**30]
    header(folder, lambda c: c.update(huge={"dtype": "F32", "shape": [2**28], "data_offsets": offsets}))
    os.truncate(weights(folder), weights(folder).stat().st_size + 2**30)


def _cut(folder: Path) -> None:
    os.truncate(weights(folder), weights(folder).stat().st_size - 1)


def _not_finite(folder: Path) -> None:
    text, body = text_of(folder)
    begin, _ = json.loads(text)[FIRST]["data_offsets"]
    flipped = bytearray(body)
    flipped[begin : begin + 4] = np.float32("nan").tobytes()
    rewrite(folder, text, bytes(flipped))


def _flipped_header(folder: Path) -> None:
    data = bytearray(weights(folder).read_bytes())
    data[40] ^= 0x40
    weights(folder).write_bytes(data)


def _two_libraries(folder: Path) -> None:
    """The names of timm's first block beside Hugging Face's."""
    state = load_file(weights(folder))
    fused = {"blocks.0.attn.qkv.weight": (96, 32), "patch_embed.proj.weight": (32, 3, 16, 16), "pos_embed": (1, 5, 32)}
    save_file({**state, **{name: torch.ones(shape) for name, shape in fused.items()}}, weights(folder))


def _traversal_name(folder: Path) -> None:
    header(folder, lambda content: content.update({"../../pwned": content.pop(FIRST)}))


def _pickle_renamed(folder: Path) -> None:
    torch.save({"a": Call(os.system, f"touch {CANARY}")}, weights(folder))


HOSTILE: dict[str, tuple[Spoil, str]] = {
    "header claims a terabyte": (lambda f: overwrite(weights(f), (2**40).to_bytes(8, "little")), "header claims"),
    "header claims the file": (lambda f: overwrite(weights(f), (900_000).to_bytes(8, "little")), "cut short"),
    "header ends early": (_header_ends_early, "not JSON"),
    "header is a list": (lambda f: rewrite(f, "[]", b""), "no mapping"),
    "header is empty": (lambda f: weights(f).write_bytes(b""), "not JSON|cut short"),
    "tensors overlap": (_overlapping, "does not fit"),
    "a gap before the tensors": (_gap, "does not fit"),
    "a tensor twice": (_duplicate, "repeats a key"),
    "a shape of 10^15": (entry(shape=[0, 10**15]), "does not fit"),
    "a shape of 10^12": (entry(shape=[10**12]), "does not fit"),
    "a negative shape": (entry(shape=[-1, -32]), "does not fit"),
    "a shape of truths": (entry(shape=[True, True, 32]), "does not fit"),
    "a shape of texts": (entry(shape=["1", "1", "32"]), "does not fit"),
    "a shape of fractions": (entry(shape=[1.0, 1, 32]), "does not fit"),
    "offsets of truths": (entry(data_offsets=[False, True]), "does not fit"),
    "one more field": (entry(path="../secret.safetensors"), "does not fit"),
    "an unknown dtype": (entry(dtype="F33"), "does not fit"),
    "a dtype that is a list": (entry(dtype=["F32"]), "does not fit"),
    "NaN in the header": (_nan_in_header, "NaN"),
    "nested without end": (_deep, "not JSON"),
    "metadata of lists": (lambda f: header(f, lambda c: c.update(__metadata__={"a": []})), "metadata"),
    "a sparse gigabyte": (_sparse, "huge"),
    "cut by a byte": (_cut, "bytes"),
    "NaN weights": (_not_finite, "NaN or infinity"),
    "a bit flipped in the header": (_flipped_header, ""),
    "a name that climbs": (_traversal_name, "pwned|lacks"),
    "two libraries at once": (_two_libraries, "several libraries"),
    "a pickle called safetensors": (_pickle_renamed, "is a file of torch.save, whatever its name says"),
}
