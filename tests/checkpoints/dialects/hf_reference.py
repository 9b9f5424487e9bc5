"""What the comparisons with transformers share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

import vitrail
from vitrail.build import LazyCheckpoint, open_checkpoint
from vitrail.checkpoints import foreign
from vitrail.checkpoints.description import Description
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.tasks import Task, classification, features
from vitrail.vit import ViTConfig

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 80,
    "image_size": 32,
    "patch_size": 8,
}
LABELS = {"id2label": {0: "ant", 1: "bee", 2: "cat"}, "label2id": {"ant": 0, "bee": 1, "cat": 2}}
NAMES = ("ant", "bee", "cat")


def images(height: int = 32, width: int = 32, channels: int = 3) -> Tensor:
    return torch.randn(2, channels, height, width, generator=torch.Generator().manual_seed(1))


def read(model: Any, folder: Path, dialect: str) -> Task:
    """Ours of a model of theirs, by the files that it saves."""
    model.save_pretrained(folder)
    found = open_checkpoint(folder)
    assert found.dialect == dialect
    assert found.assumed == () or all(line.startswith("preprocessing") for line in found.assumed)
    return found.load().eval()


def read_bare(model: Any, folder: Path, dialect: str) -> LazyCheckpoint:
    """What we find in its state dict alone: the names of transformers 5 in memory, no config."""
    folder.mkdir()
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / "model.safetensors")
    found = open_checkpoint(folder)
    assert found.dialect == dialect
    return found


def build(labels: bool = True, pool: Any = None, head: Any = None, projection: int = 0, **vit: Any) -> Task:
    """A small task of ours with random weights."""
    base = {"image_size": 32, "patch_size": 8, "dim": 32, "depth": 3, "heads": 4, "mlp_dim": 80}
    config = {"model": ViTConfig(**{**base, **vit}), "pool": pool, **({"head": head} if head else {})}
    torch.manual_seed(0)
    task: Task
    if labels:
        task = classification.Task(classification.Config(classes=NAMES, **config))
    else:
        task = features.Task(features.Config(projection=projection, **config))
    for parameter in task.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return task.eval()


def write(dialect: str, task: Task, folder: Path, **preprocess: Any) -> None:
    vit = task.vit.config
    settings = PreprocessConfig(**{"size": vit.image_size, "channels": vit.channels, **preprocess})
    model = Description.of(task, settings)
    assert foreign.dialect_for("huggingface", model) == dialect
    foreign.save(dialect, folder, model, task.state_dict())


def theirs_of(kind: str, folder: Path, **options: Any) -> Any:
    """A model that the library loads with nothing missing and nothing left over."""
    model, info = getattr(transformers, kind).from_pretrained(folder, output_loading_info=True, **options)
    assert not any(info[problem] for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert model.dtype == torch.float32
    return model.eval()


def agree_inside(task: Task, theirs: Any, close: Any) -> None:
    """Hidden states and attention of all blocks; theirs has attn_implementation="eager"."""
    x = images()
    out = theirs(x, output_hidden_states=True, output_attentions=True)
    assert len(out.hidden_states) == 1 + len(task.vit.blocks)
    ours = [task.vit.tokenise(x)[0], *(f.tokens for f in task.vit.intermediates(x))]
    for own, their in zip(ours, out.hidden_states, strict=True):
        close(own, their)
    for own, their in zip(task.vit.attentions(x), out.attentions, strict=True):
        close(own, their)


def photo(height: int = 70, width: int = 91) -> Image.Image:
    """Smooth, as pictures are: both resizes of the library agree on it to a grey level. Its centre crop is even."""
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def pipeline_agrees(folder: Path, picture: Image.Image | None = None) -> None:
    """transformers.pipeline on a folder that we wrote says what we say."""
    picture = picture or photo()
    ours = vitrail.load(folder, device="cpu").predict(picture)
    for backend, tolerance in (("pil", 1e-5), ("torchvision", 2e-2)):
        processor = transformers.AutoImageProcessor.from_pretrained(folder, backend=backend)
        run = transformers.pipeline("image-classification", model=str(folder), image_processor=processor, device="cpu")
        said = {each["label"]: each["score"] for each in run(picture)}
        assert set(said) == set(NAMES)
        for name, probability in zip(ours.classes, ours.probabilities, strict=True):
            assert abs(said[name] - probability) < tolerance
    assert transformers.pipeline("image-classification", str(folder), device="cpu")(picture)[0]["label"] == ours.label


def config_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return found
