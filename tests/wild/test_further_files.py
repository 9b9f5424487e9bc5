"""Files of the same kinds as those of public reports, made with a known truth: each is read as it was made, or refused.

Silent before: a model without its final norm was computed without one; a file of fewer blocks than its config says was
a shallower model; of several weights in a folder the first was taken. Misleading: a head under another name at the top
of the file, two heads for ``--init``, folders of checkpoints, a pickle under the name of safetensors.

Siblings looked at: 150 files of wrappers, containers, dtypes, partial and sharded files, adapters, quantised tensors,
averages and folders of Hugging Face's Trainer, Accelerate, DeepSpeed, timm and Keras.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from small_vits import distance, prefixed, randomised, timm_vit
from torch import Tensor, nn

from vitrail.build import open_checkpoint
from vitrail.errors import UserError

State = dict[str, Tensor]
IMAGES = torch.randn(2, 3, 32, 32)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return timm_vit(depth=2)


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    import transformers

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    config = transformers.ViTConfig(**sizes, image_size=32, patch_size=8, num_labels=4)
    return randomised(transformers.ViTForImageClassification(config))


def without(state: State, *beginnings: str) -> State:
    return {name: value for name, value in state.items() if not name.startswith(beginnings)}


def put(state: State, file: Path) -> Path:
    save_file({name: value.clone().contiguous() for name, value in state.items()}, file)
    return file


READ: dict[str, Callable[[State], State]] = {
    "data-parallel and compiled": lambda s: prefixed(s, "module._orig_mod."),
    "FSDP inside": lambda s: {n.replace("blocks.0.", "blocks.0._fsdp_wrapped_module."): v for n, v in s.items()},
    "PEFT's, merged": lambda s: prefixed(s, "base_model.model."),
    "average of ema_pytorch": lambda s: (
        prefixed({n: torch.zeros_like(v) for n, v in s.items()}, "online_model.")
        | prefixed(s, "ema_model.")
        | {"initted": torch.tensor(True)}
    ),
    "BYOL's": lambda s: prefixed(s, "online_encoder.") | prefixed({n: 0 * v for n, v in s.items()}, "target_encoder."),
    "torch's swa": lambda s: prefixed(s, "module.") | {"n_averaged": torch.tensor(5)},
    "CLIP's temperature beside": lambda s: prefixed(s, "visual.") | {"logit_scale": torch.tensor(1.0)},
    "a head called fc": lambda s: without(s, "head.") | {"fc.weight": s["head.weight"], "fc.bias": s["head.bias"]},
    "a head after dropout": lambda s: (
        without(s, "head.") | {"classifier.1.weight": s["head.weight"], "classifier.1.bias": s["head.bias"]}
    ),
    "float64": lambda s: {n: v.double() for n, v in s.items()},
}


@pytest.mark.parametrize("name", READ)
def test_it_is_read(name: str, model: nn.Module, tmp_path: Path) -> None:
    found = open_checkpoint(put(READ[name](model.state_dict()), tmp_path / "a.safetensors"))
    assert distance(found.load(), model, IMAGES) < 1e-5


def lora(s: State) -> State:
    base = {n.replace("qkv.", "qkv.base_layer."): v for n, v in s.items()}
    for i in (0, 1):
        base |= {f"blocks.{i}.attn.qkv.lora_A.default.weight": torch.ones(4, 192)}
        base |= {f"blocks.{i}.attn.qkv.lora_B.default.weight": torch.ones(576, 4)}
    return base


REFUSED: dict[str, tuple[Callable[[State], State], str]] = {
    "no final norm": (lambda s: without(s, "norm."), r"lacks norm\.weight"),
    "no tensor of a block": (lambda s: without(s, "blocks.1.norm2.bias"), r"lacks blocks\.1\.norm2\.bias"),
    "a block left out": (
        lambda s: {n.replace("blocks.1.", "blocks.2."): v for n, v in s.items()},
        r"lacks blocks\.1\.",
    ),
    "adapters not merged": (lora, "no dialect"),
    "int8": (lambda s: {n: v.to(torch.int8) if v.ndim == 2 else v for n, v in s.items()}, "does not fit"),
    "scales beside": (lambda s: s | {"blocks.0.mlp.fc1.SCB": torch.ones(768)}, "unknown blocks"),
    "a norm in one block": (lambda s: s | {"blocks.0.attn.q_norm.weight": torch.ones(64)}, "q_norm|unknown|lacks"),
    "prompts": (lambda s: s | {"prompt_embeddings": torch.ones(1, 5, 192)}, "unknown prompt_embeddings"),
    "a temperature that scales": (lambda s: s | {"temperature": torch.tensor(2.0)}, "unknown temperature"),
    "an MLP as head": (
        lambda s: without(s, "head.") | {"head.0.weight": torch.ones(8, 192), "head.2.weight": torch.ones(4, 8)},
        "has a head",
    ),
    "two heads": (
        lambda s: without(s, "head.") | {"head_a.weight": torch.ones(4, 192), "head_b.weight": torch.ones(5, 192)},
        "has a head",
    ),
    "two models": (lambda s: prefixed(s, "a.") | prefixed(s, "b."), "several models"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused(name: str, model: nn.Module, tmp_path: Path) -> None:
    make, words = REFUSED[name]
    with pytest.raises(UserError, match=words) as caught:
        open_checkpoint(put(make(model.state_dict()), tmp_path / "a.safetensors")).load()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["an MLP as head", "two heads"])
def test_a_start_needs_no_head(name: str, model: nn.Module, tmp_path: Path) -> None:
    file = put(REFUSED[name][0](model.state_dict()), tmp_path / "a.safetensors")
    found = open_checkpoint(file, backbone=True)
    with torch.no_grad():
        expected = model.forward_features(IMAGES)[:, 0]
        torch.testing.assert_close(found.load().eval()(IMAGES), expected, atol=1e-4, rtol=1e-4)
    assert any("a head that Vitrail does not compute" in line for line in found.assumed)


@pytest.mark.parametrize("library", ["timm", "huggingface"])
def test_fewer_blocks_than_the_config_says(library: str, model: nn.Module, theirs: Any, tmp_path: Path) -> None:
    if library == "timm":
        config: dict[str, Any] = {"architecture": "vit_tiny_patch16_224", "model_args": {"img_size": 32, "depth": 12}}
        put(model.state_dict(), tmp_path / "model.safetensors")
    else:
        theirs.save_pretrained(tmp_path)
        config = json.loads((tmp_path / "config.json").read_text()) | {"num_hidden_layers": 12}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="has 2 blocks and its config says 12"):
        open_checkpoint(tmp_path)


def test_folders_of_trainers(theirs: Any, tmp_path: Path) -> None:
    for step in (500, 1000):
        folder = tmp_path / f"checkpoint-{step}"
        theirs.save_pretrained(folder)
        torch.save({"state": {0: {"exp_avg": torch.ones(3, 3)}}}, folder / "optimizer.pt")
        torch.save([1], folder / "training_args.bin")
    with torch.no_grad():
        expected = theirs(IMAGES).logits
        torch.testing.assert_close(open_checkpoint(folder).load().eval()(IMAGES), expected, atol=1e-5, rtol=1e-4)
    with pytest.raises(UserError, match=r"its folders do \(checkpoint-1000, checkpoint-500\): name the one"):
        open_checkpoint(tmp_path)


def test_parts_without_an_index(theirs: Any, tmp_path: Path) -> None:
    theirs.save_pretrained(tmp_path, max_shard_size="20KB")
    parts = sorted(tmp_path.glob("model-*.safetensors"))
    (tmp_path / "model.safetensors.index.json").unlink()
    with pytest.raises(UserError, match=r"several weights files .* and no index of parts"):
        open_checkpoint(tmp_path)
    for part in parts:
        with pytest.raises(UserError):
            open_checkpoint(part)


def test_a_pickle_under_another_name(model: nn.Module, tmp_path: Path) -> None:
    torch.save(model.state_dict(), tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=r"is a file of torch\.save, whatever its name says; name it a\.pth"):
        open_checkpoint(tmp_path / "a.safetensors", allow_pickle=True)
