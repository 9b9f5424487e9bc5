"""How long does it take to load a ViT-B/16, and how much memory, against safetensors, timm and transformers?

    python benchmarks/loading.py [--repeats 7] [--model B/16] [--touch]

Random weights are written to a temporary folder and are in the page cache. Each load is the second of a fresh
interpreter, after that of a tiny model, so that imports do not count and the process has no memory to use again. They
take turns in an order of its own for every round, for each finds the machine's memory as the one before left it. What
safetensors and transformers map of the file is copied out, or it would not be read. The peak is that of the process
above what it had before, as a multiple of the weights' bytes. Goals: time ≤ 1.2 × safetensors' and no more than that
of transformers and timm, the peak ≤ 1.3.

``--touch`` takes out what the host of a virtual machine costs: right before each load, large pages of free memory are
touched and let go. That helps whoever asks for large pages, which of these is Vitrail alone.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import mmap
import random
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any


def _vitrail(name: str) -> Callable[[Path], Iterable[Any]]:
    def load(folder: Path) -> Iterable[Any]:
        import vitrail

        return vitrail.load(folder / name, device="cpu").task.state_dict().values()

    return load


def _safetensors(folder: Path) -> Iterable[Any]:
    from safetensors.torch import load_file

    return [value.clone() for value in load_file(folder / "hf_vit" / "model.safetensors").values()]


def _transformers(folder: Path) -> Iterable[Any]:
    from transformers import ViTForImageClassification

    return [
        value.clone() for value in ViTForImageClassification.from_pretrained(folder / "hf_vit").state_dict().values()
    ]


def _timm(folder: Path) -> Iterable[Any]:
    import timm

    weights = str(folder / "timm" / "model.safetensors")
    options = json.loads((folder / "timm.json").read_text())
    return timm.create_model("vit_base_patch16_224", checkpoint_path=weights, **options).state_dict().values()


LOADERS: dict[str, Callable[[Path], Iterable[Any]]] = {
    "safetensors": _safetensors,
    "vitrail native": _vitrail("native.safetensors"),
    "vitrail hf": _vitrail("hf_vit"),
    "vitrail timm": _vitrail("timm"),
    "transformers": _transformers,
    "timm": _timm,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--model", default="B/16")
    parser.add_argument("--touch", action="store_true")
    parser.add_argument("--child", nargs=2, metavar=("LOADER", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(_measured(LOADERS[options.child[0]], Path(options.child[1]), touch=options.touch)))
        return
    with tempfile.TemporaryDirectory() as folder:
        size = write(Path(folder), options.model)
        found: dict[str, list[list[float]]] = {name: [] for name in LOADERS}
        for number in range(options.repeats + 1):
            for name in random.Random(number).sample(list(found), len(found)):
                command = [sys.executable, __file__, "--child", name, folder, *["--touch"][: options.touch]]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                if number:  # the first round fills the page cache
                    found[name].append(json.loads(done.stdout.splitlines()[-1]))
    seconds = {name: statistics.median(s for s, _ in values) for name, values in found.items()}
    print(f"{options.model}: {size / 1e6:.0f} MB, median of {options.repeats}")
    for name, values in found.items():
        peak = statistics.median(p for _, p in values) / size
        ratio = statistics.median(s / base for (s, _), (base, _) in zip(values, found["safetensors"], strict=True))
        print(f"{name:16} {seconds[name]:6.3f} s   {ratio:5.2f} × safetensors   peak {peak:4.2f} × weights")


def write(folder: Path, name: str) -> int:
    """Files of a large model in ``folder/big`` and a tiny one in ``folder/tiny``; returns the large one's bytes."""
    import torch

    from vitrail.checkpoints import foreign
    from vitrail.checkpoints.description import Description
    from vitrail.data.transforms.preprocess import PreprocessConfig
    from vitrail.predictor import Predictor
    from vitrail.tasks import classification
    from vitrail.vit_presets import preset

    classes = tuple(f"class {i}" for i in range(1000))
    for kind, config in (
        ("tiny", dataclasses.replace(preset("Ti/16"), dim=64, heads=1, mlp_dim=64, depth=1)),
        ("big", preset(name)),
    ):
        config = dataclasses.replace(config, block=dataclasses.replace(config.block, norm_eps=1e-6))
        task = classification.Task(classification.Config(model=config, classes=classes))
        for parameter in task.parameters():
            torch.nn.init.normal_(parameter, std=0.02)
        preprocess = PreprocessConfig(size=config.image_size)
        Predictor(task, preprocess, device="cpu").save(folder / kind / "native.safetensors")
        for dialect in ("hf_vit", "timm"):
            foreign.save(dialect, folder / kind / dialect, Description.of(task, preprocess), task.state_dict())
        options = {"embed_dim": config.dim, "depth": config.depth, "num_heads": config.heads}
        options |= {"patch_size": config.patch_size[0], "mlp_ratio": config.mlp_dim / config.dim}
        (folder / kind / "timm.json").write_text(json.dumps(options))
    return (folder / "big" / "hf_vit" / "model.safetensors").stat().st_size


def _measured(load: Callable[[Path], Iterable[Any]], folder: Path, *, touch: bool) -> tuple[float, int]:
    """Seconds, and bytes of memory at the peak."""
    load(folder / "tiny")
    if touch:
        _touch(folder / "big")
    before = _begin_peak()
    started = time.perf_counter()
    held = load(folder / "big")
    seconds = time.perf_counter() - started
    assert len(list(held)) > 100
    return seconds, _peak() - before


def _touch(folder: Path) -> None:
    """Have free memory in the machine's hands, and after that the files in the page cache still."""
    files = list(folder.rglob("*.safetensors"))
    size = 4 * max(file.stat().st_size for file in files)
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        if hasattr(mmap, "MADV_HUGEPAGE"):
            memory.madvise(mmap.MADV_HUGEPAGE)
        for begin in range(0, len(memory), mmap.PAGESIZE):
            memory[begin] = 1
    for file in files:
        file.read_bytes()


def _begin_peak() -> int:
    """Forget the peak so far where the system can; returns what counts as the beginning."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"VmHWM:\s+(\d+)", status.read_text())):
        return int(found[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    main()
