"""Adapters between Vitrail and the real PEFT library, both ways, on tiny random models."""

from __future__ import annotations

import copy

import pytest
import torch

from vitrail.lora import LoraConfig, adapted, attach, merged
from vitrail.lora.peft import merge_adapter, write

peft = pytest.importorskip("peft")


def drawn(model: torch.nn.Module) -> torch.nn.Module:
    """The model with adapters and a head that do something."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_B" in name or "modules_to_save" in name:
                value.normal_(std=0.3)
    return model.eval()


def test_peft_reads_what_vitrail_writes(tiny_predictor, tmp_path):
    """Also the head that was trained beside the adapters; PEFT's own merging gives our kernels."""
    task = tiny_predictor().task
    base = copy.deepcopy(task)
    attach(task, LoraConfig(rank=4, alpha=6))
    for _, layer in adapted(task):
        torch.nn.init.normal_(layer.lora_B, std=0.3)
    torch.nn.init.normal_(task.head.output.weight)
    write(tmp_path / "adapter", task, LoraConfig(rank=4, alpha=6), None)

    model = peft.PeftModel.from_pretrained(copy.deepcopy(base), tmp_path / "adapter").eval()
    images = torch.randn(2, 3, 16, 24)
    with torch.no_grad():
        assert not torch.allclose(base(images), task(images), atol=1e-2)
        torch.testing.assert_close(model(images), task(images))
    found = model.merge_and_unload().state_dict()
    for name, value in merged(task).state_dict().items():
        torch.testing.assert_close(found[name], value)


@pytest.mark.parametrize("use_rslora", [False, True])
def test_vitrail_merges_what_peft_writes(use_rslora, tiny_predictor, tmp_path):
    """An adapter that PEFT attached to a task of ours, with other ranks and scales for some layers and a head."""
    predictor = tiny_predictor()
    predictor.save(tmp_path / "base.safetensors")
    settings = peft.LoraConfig(
        r=3,
        lora_alpha=5,
        target_modules=["qkv", "fc1"],
        rank_pattern={"blocks.1.mlp.fc1": 2},
        alpha_pattern={"blocks.0.attention.qkv": 7},
        modules_to_save=["head"],
        use_rslora=use_rslora,
    )
    model = drawn(peft.get_peft_model(copy.deepcopy(predictor.task), settings))
    model.save_pretrained(tmp_path / "adapter")

    found = merge_adapter(tmp_path / "base.safetensors", tmp_path / "adapter").task
    images = torch.randn(2, 3, 16, 24)
    with torch.no_grad():
        assert not torch.allclose(predictor.task(images), model(images), atol=1e-2)
        torch.testing.assert_close(found(images), model(images), atol=1e-5, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT asks transformers
@pytest.mark.parametrize("use_rslora", [False, True])
def test_vitrail_merges_an_adapter_of_transformers(use_rslora, tmp_path):
    """``get_peft_model(ViTForImageClassification)``, as PEFT's guide for image classification does it."""
    transformers = pytest.importorskip("transformers")
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.ViTConfig(**size, image_size=16, patch_size=8, num_labels=3)
    base = transformers.ViTForImageClassification(config).eval()
    base.save_pretrained(tmp_path / "base")
    targets = ["q_proj", "v_proj", "fc2"]
    settings = peft.LoraConfig(
        r=4, lora_alpha=9, target_modules=targets, modules_to_save=["classifier"], use_rslora=use_rslora
    )
    model = drawn(peft.get_peft_model(copy.deepcopy(base), settings))
    model.save_pretrained(tmp_path / "adapter")

    found = merge_adapter(tmp_path / "base", tmp_path / "adapter", classes=("a", "b", "c"))
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        assert not torch.allclose(base(images).logits, model(images).logits, atol=1e-2)
        torch.testing.assert_close(found.task(images), model(images).logits, atol=1e-4, rtol=1e-4)
