"""Folders whose index, links or JSON are hostile."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from spoiling import Spoil, device, fifo, weights


def shards(weight_map: Any) -> Spoil:
    """The sound weights as one shard, and an index: all names in one file, or what a function makes of them."""

    def spoil(folder: Path) -> None:
        shard = folder / "model-00001-of-00001.safetensors"
        weights(folder).rename(shard)
        names = list(load_file(shard))
        mapping = dict.fromkeys(names, weight_map) if isinstance(weight_map, str) else weight_map(names)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": mapping}))

    return spoil


def _deep_index(folder: Path) -> None:
    shards("x.safetensors")(folder)
    (folder / "model.safetensors.index.json").write_text('{"weight_map":' + "[" * 10**6)


def _big_index(folder: Path) -> None:
    shards("x.safetensors")(folder)
    (folder / "model.safetensors.index.json").write_text('{"weight_map": "' + "x" * 10**8 + '"}')


def _linked_shard(folder: Path) -> None:
    shards("linked.safetensors")(folder)
    (folder / "linked.safetensors").symlink_to(folder.parent / "secret.safetensors")


def _loop(folder: Path) -> Path:
    weights(folder).unlink()
    weights(folder).symlink_to(weights(folder))
    return weights(folder)


def config(*, file: str = "config.json", **changes: Any) -> Spoil:
    def spoil(folder: Path) -> None:
        content = json.loads((folder / file).read_text()) | changes
        (folder / file).write_text(json.dumps(content))

    return spoil


def preprocessing(**changes: Any) -> Spoil:
    return config(file="preprocessor_config.json", **changes)


def json_text(name: str, text: Callable[[], str]) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / name).write_text(text())

    return spoil


HOSTILE: dict[str, tuple[Spoil, str]] = {
    "a shard above": (shards("../secret.safetensors"), "weight_map"),
    "a shard elsewhere": (shards("/etc/passwd"), "weight_map"),
    "a shard that is a link out": (_linked_shard, "outside"),
    "a shard that is not there": (shards("other.safetensors"), "other.safetensors"),
    "a shard that is a pickle": (shards("model.bin"), "weight_map"),
    "a shard that is the index": (shards("model.safetensors.index.json"), "weight_map"),
    "an index of numbers": (shards(lambda names: dict.fromkeys(names, 1)), "weight_map"),
    "an index that is a list": (shards(lambda names: names), "weight_map"),
    "an index of one name": (shards(lambda names: {names[0]: "model-00001-of-00001.safetensors"}), "weight_map"),
    "an index with one more": (
        shards(lambda names: dict.fromkeys([*names, "more"], "model-00001-of-00001.safetensors")),
        "more",
    ),
    "an index without end": (_deep_index, "JSON"),
    "a hundred megabytes of index": (_big_index, "bytes"),
    "a FIFO": (fifo("model.safetensors"), "not a regular file"),
    "a device": (device("model.safetensors"), "not a regular file"),
    "a link to itself": (_loop, ""),
    "an endless depth": (config(num_hidden_layers=10**9, num_attention_heads=10**9), ""),
    "no heads": (config(num_attention_heads=0), ""),
    "negative heads": (config(num_attention_heads=-2), ""),
    "heads that do not divide": (config(num_attention_heads=3), ""),
    "heads in words": (config(num_attention_heads="two"), ""),
    "a billion pixels": (config(image_size=10**9), "positions"),
    "negative pixels": (config(image_size=-32), "image_size"),
    "pixels in a list of lists": (config(image_size=[[32], {}]), ""),
    "an epsilon of NaN": (json_text("config.json", lambda: '{"model_type": "vit", "layer_norm_eps": NaN}'), "NaN"),
    "an epsilon below zero": (config(layer_norm_eps=-1.0), ""),
    "an unknown activation": (config(hidden_act="os.system"), "hidden_act"),
    "an activation that is a list": (config(hidden_act=["gelu"]), ""),
    "labels without numbers": (config(id2label={"a": "b"}), "id2label"),
    "labels in a list": (config(id2label=[1, 2]), "id2label"),
    "a config that is a list": (json_text("config.json", lambda: "[]"), "config.json"),
    "a config nested without end": (json_text("config.json", lambda: '{"a":' + "[" * 10**6), "config.json"),
    "a key twice": (json_text("config.json", lambda: '{"model_type": "vit", "model_type": "vit"}'), "config.json"),
    "a hundred megabytes of config": (json_text("config.json", lambda: '{"a": "' + "x" * 10**8 + '"}'), "bytes"),
    "ten million labels": (
        json_text("config.json", lambda: '{"id2label": {' + '"1": "c", ' * 10**7 + '"0": "c"}}'),
        "bytes",
    ),
    "a hundred megabytes of names": (json_text("classes.json", lambda: '["' + "x" * 10**8 + '"]'), "bytes"),
    "a hundred megabytes of preprocessing": (
        json_text("preprocessor_config.json", lambda: '{"a": "' + "x" * 10**8 + '"}'),
        "bytes",
    ),
    "a mean of words": (preprocessing(image_mean=["a", {}, None]), ""),
    "a deviation of nothing": (preprocessing(image_std=[0.0, 0.0, 0.0]), ""),
    "an unknown interpolation": (preprocessing(resample=99), ""),
    "an interpolation that is a list": (preprocessing(resample=[2]), ""),
    "a size in words": (preprocessing(size="big"), ""),
    "a crop below nothing": (preprocessing(do_center_crop=True, crop_size=-4, size={"shortest_edge": -9}), ""),
    "a rescaling that overflows": (json_text("preprocessor_config.json", lambda: '{"rescale_factor": 1e999}'), ""),
    "names of numbers": (json_text("classes.json", lambda: "[1, 2, 3]"), "classes.json"),
}
