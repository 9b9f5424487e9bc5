"""Adapters against their definition, and PEFT's files against its documented names and formula."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import vitrail
from vitrail.cli import main
from vitrail.errors import UserError
from vitrail.lora import LoraConfig, adapted, attach, merged
from vitrail.lora.peft import merge_adapter, read, write


@pytest.fixture
def tuned(tiny_predictor):
    """A classifier with adapters that do something, and what it was."""
    before, task = tiny_predictor().task, tiny_predictor().task
    names = attach(task, LoraConfig(rank=4, alpha=6))
    for _, layer in adapted(task):
        torch.nn.init.normal_(layer.lora_B, std=0.3)
    return before, task, names


def test_the_kernel_is_the_sum(tuned):
    before, task, names = tuned
    assert sorted(names)[0] == "vit.blocks.0.attention.out"
    assert len(names) == 8
    plain = before.state_dict()
    for name, layer in adapted(task):
        expected = plain[f"{name}.weight"] + 6 / 4 * layer.lora_B @ layer.lora_A
        torch.testing.assert_close(layer.kernel(), expected)
    images = torch.randn(2, 3, 16, 24)
    with torch.no_grad():
        outputs = task(images)
        assert not torch.allclose(outputs, before(images))
        flat = merged(task)
        torch.testing.assert_close(flat(images), outputs)
    assert flat.state_dict().keys() == plain.keys()
    assert merged(before) is before


def test_nothing_changes_at_first_and_the_adapters_and_the_head_are_trained(tiny_predictor):
    before, task = tiny_predictor().task, tiny_predictor().task
    attach(task, LoraConfig(rank=2, targets=("*.qkv",)))
    images = torch.randn(2, 3, 16, 24)
    torch.testing.assert_close(task(images), before(images))
    trained = {name for name, value in task.named_parameters() if value.requires_grad}
    assert {name.rpartition(".")[2] for name in trained if name.startswith("vit.")} == {"lora_A", "lora_B"}
    assert {name for name in trained if not name.startswith("vit.")} == {"head.output.weight", "head.output.bias"}
    loss = task.loss({"images": images, "targets": torch.tensor([0, 1])})["loss"]
    loss.backward()
    for _, layer in adapted(task):
        assert float(layer.lora_B.grad.abs().sum()) > 0


def test_peft_files(tuned, tmp_path):
    """Names and settings as PEFT documents them; what is read merges to what was written."""
    _, task, _ = tuned
    write(tmp_path / "adapter", task, LoraConfig(rank=4, alpha=6), "base")
    state = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    pair = [state[f"base_model.model.vit.blocks.1.mlp.fc1.lora_{part}.weight"] for part in "AB"]
    assert [tuple(each.shape) for each in pair] == [(4, 32), (48, 4)]
    assert "base_model.model.head.output.weight" in state
    settings = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (settings["peft_type"], settings["r"], settings["lora_alpha"]) == ("LORA", 4, 6)
    assert settings["modules_to_save"] == ["head"]
    assert "vit.blocks.1.mlp.fc1" in settings["target_modules"]


def test_merging_into_a_native_file(tuned, tiny_predictor, tmp_path, capsys):
    _, task, _ = tuned
    tiny_predictor().save(tmp_path / "base.safetensors")
    write(tmp_path / "adapter", task, LoraConfig(rank=4, alpha=6), None)
    found = merge_adapter(tmp_path / "base.safetensors", tmp_path / "adapter")
    for name, value in merged(task).state_dict().items():
        torch.testing.assert_close(found.task.state_dict()[name], value)
    command = ["merge-adapter", *(str(tmp_path / name) for name in ("base.safetensors", "adapter", "out.safetensors"))]
    assert main(command) == 0
    image = np.zeros((20, 30, 3), np.uint8)
    again = vitrail.load(tmp_path / "out.safetensors", device="cpu")
    np.testing.assert_array_equal(again.predict(image).probabilities, found.predict(image).probabilities)
    assert main(command) == 2
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize("names", ["memory", "file"])
def test_an_adapter_of_transformers(names, tmp_path):
    """An adapter of query and value with a new head, as PEFT writes it for ViTForImageClassification: the merged model
    computes what transformers computes with the summed kernels."""
    transformers = pytest.importorskip("transformers")
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    model = transformers.ViTForImageClassification(
        transformers.ViTConfig(**size, image_size=16, patch_size=8, num_labels=5)
    ).eval()
    model.save_pretrained(tmp_path / "base")
    model.classifier = torch.nn.Linear(16, 3)
    state, settings = {}, {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "alpha_pattern": {"layers?.1.*": 3}}
    settings |= {"use_rslora": True, "target_modules": ["query", "value"], "modules_to_save": ["classifier"]}
    for layer in range(2):
        for short, long in (("q", "query"), ("v", "value")):
            kernel = getattr(model.vit.layers[layer].attention, f"{short}_proj").weight
            a, b = torch.randn(4, 16), torch.randn(16, 4)
            with torch.no_grad():
                kernel += (3 if layer else 8) / math.sqrt(4) * b @ a
            place = f"encoder.layer.{layer}.attention.attention.{long}"
            place = place if names == "file" else f"layers.{layer}.attention.{short}_proj"
            state[f"base_model.model.vit.{place}.lora_A.weight"] = a
            state[f"base_model.model.vit.{place}.lora_B.weight"] = b
    for name, value in model.classifier.named_parameters():
        state[f"base_model.model.classifier.{name}"] = value.detach().clone()
    (tmp_path / "adapter").mkdir()
    save_file(state, tmp_path / "adapter" / "adapter_model.safetensors")
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(settings))
    found = merge_adapter(tmp_path / "base", tmp_path / "adapter", classes=("a", "b", "c"))
    assert found.classes == ("a", "b", "c")
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(found.task(images), model(images).logits, atol=1e-4, rtol=1e-4)
    with pytest.raises(UserError, match="3 classes and 2 names"):
        merge_adapter(tmp_path / "base", tmp_path / "adapter", classes=("a", "b"))


def test_what_does_not_fit_is_named(tuned, tiny_predictor, tmp_path):
    _, task, _ = tuned
    with pytest.raises(UserError, match="holds no adapter; give the folder with adapter_config"):
        read(tmp_path)
    write(tmp_path / "adapter", task, LoraConfig(rank=4, alpha=6), None)
    tiny_predictor(dim=16).save(tmp_path / "narrow.safetensors")
    with pytest.raises(UserError, match="has another shape there"):
        merge_adapter(tmp_path / "narrow.safetensors", tmp_path / "adapter")
    tiny_predictor(depth=1).save(tmp_path / "shallow.safetensors")
    with pytest.raises(UserError, match="give the weights that the adapter was trained on"):
        merge_adapter(tmp_path / "shallow.safetensors", tmp_path / "adapter")
    settings = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    for change, message in (({"peft_type": "IA3"}, "type 'IA3'"), ({"use_dora": True}, "uses use_dora")):
        (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(settings | change))
        with pytest.raises(UserError, match=message):
            read(tmp_path / "adapter")
    with pytest.raises(UserError, match="no linear layer is called 'qvk'"):
        attach(tiny_predictor().task, LoraConfig(targets=("qvk",)))
    with pytest.raises(UserError, match="rank 99 is no less than"):
        attach(tiny_predictor().task, LoraConfig(rank=99))
