"""Every method keeps the contract; tests/checkpoints/dialects/test_hf_masked.py compares two with transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from compiled import assert_compiled_layers_run
from torch.utils._python_dispatch import TorchDispatchMode

import vitrail
from vitrail import registry
from vitrail.build import open_checkpoint
from vitrail.config import from_dict, to_dict
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.ops.masking import mask_blocks, mask_by_noise, take
from vitrail.pretrain import Pretraining
from vitrail.self_supervision.views import pooled
from vitrail.tasks import Task
from vitrail.trainable import image_encoder
from vitrail.vit import ViTConfig

MODEL = ViTConfig(image_size=32, patch_size=8, dim=32, depth=2, heads=2, mlp_dim=64)
SMALL = {"decoder_dim": 16, "decoder_depth": 1, "decoder_heads": 2, "decoder_mlp_dim": 32}
DISTILLATION = {"num_prototypes": 32, "hidden_dim": 32, "bottleneck_dim": 16, "freeze_prototypes": 0.0}
PROJECTOR = {"hidden_dim": 32, "output_dim": 16}
OPTIONS: dict[str, dict[str, Any]] = {
    "mae": SMALL,
    "simmim": {"mask_size": 16},
    "dino": DISTILLATION,
    "ibot": DISTILLATION | {"mask_probability": 1.0},
    "simclr": PROJECTOR,
    "moco_v3": PROJECTOR,
}
KEPT_WHOLE = ("mae", "simmim")  # what transformers has a place for
methods = pytest.mark.parametrize("name", registry.names("pretrain"))


def build(name: str, model: ViTConfig = MODEL) -> Any:
    torch.manual_seed(0)
    module = registry.load("pretrain", name)
    task = module.Task(module.Task.configure(model, (), torch.empty(0).numpy(), OPTIONS.get(name, {})))
    for parameter in task.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.2)
    return task.eval()


def batch_of(images: torch.Tensor) -> dict[str, Any]:
    views = {f"view{i}": images + 0.3 * torch.randn_like(images) for i in range(2)}
    return {"images": images, **views, "keys": torch.randint(2**62, (len(images),))}


@methods
def test_the_loss_is_finite_and_reaches_every_trainable_parameter(name: str) -> None:
    task = build(name)
    loss = task.loss(batch_of(torch.randn(4, 3, 32, 32)))["loss"]
    assert loss.shape == ()
    loss.backward()
    idle = [n for n, p in task.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert not idle


@methods
@pytest.mark.filterwarnings("ignore")
def test_the_layers_of_a_loss_are_compiled(name: str) -> None:
    assert_compiled_layers_run(build(name), batch_of(torch.randn(4, 3, 32, 32)))


class NoWaiting(TorchDispatchMode):
    """Refuses what makes the host wait for a GPU: numbers and sizes that depend on the values of tensors."""

    WAITING = ("nonzero", "bincount", "masked_select", "_local_scalar_dense", "_unique2")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        assert name not in self.WAITING, name
        if name in ("index", "index_put", "index_put_"):
            assert all(index is None or index.dtype != torch.bool for index in args[1]), f"{name} by a mask"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["colorize", "mae", "masked_patch", "rotation", "simclr", "simmim"])
def test_no_loss_makes_the_host_wait_for_a_gpu(name: str) -> None:
    task, batch = build(name).train(), batch_of(torch.randn(4, 3, 32, 32))
    with NoWaiting():
        loss = task.loss(batch)["loss"]
    assert loss.isfinite()


@methods
def test_the_contract_of_a_method(name: str) -> None:
    task, images = build(name), torch.randn(4, 3, 32, 32)
    assert isinstance(task, Pretraining)
    assert not isinstance(task, Task)
    for path, encoder in task.encoders().items():
        assert task.get_submodule(path) is encoder
    assert (task.inputs.channels, task.inputs.size, task.names, task.monitor) == (3, (32, 32), (), None)
    outputs, embedding = task.forward_with_embedding(images)
    assert torch.equal(outputs, task(images))
    assert torch.equal(embedding, task.embed(images))
    assert torch.equal(outputs, pooled(image_encoder(task)(images)))
    rows = task.evaluate_batch({"images": images})
    assert torch.equal(rows, outputs)
    task.metrics().update(rows, torch.arange(4))


@methods
def test_a_method_shows_what_it_learns(name: str) -> None:
    task = build(name)
    with torch.inference_mode():
        panels = task.show({"images": torch.randn(2, 3, 32, 32), "keys": torch.arange(2)})
    assert len({panel.title for panel in panels}) == len(panels) > 1
    assert all(panel.images.shape[0] == 2 and panel.images.shape[-2:] == (32, 32) for panel in panels)


@methods
def test_the_config_survives_json(name: str) -> None:
    task = build(name)
    module = registry.load("pretrain", name)
    assert from_dict(module.Config, json.loads(json.dumps(to_dict(task.config)))) == task.config


@methods
@pytest.mark.parametrize(
    "model",
    [
        {"positions": "rope_2d"},
        {"class_token": False, "positions": "sincos_2d"},
        {"registers": 3, "distillation_token": True},
        {"image_size": (32, 48), "patch_size": (8, 16)},
    ],
)
def test_other_backbones_learn_too(name: str, model: dict[str, Any]) -> None:
    config = ViTConfig(**{**to_dict(MODEL), **model})
    task, batch = build(name, config), batch_of(torch.randn(2, 3, *config.image_size))
    if name == "rotation" and config.image_size[0] != config.image_size[1]:
        with pytest.raises(vitrail.UserError, match="square images"):
            task.loss(batch)
        return
    task.loss(batch)["loss"].backward()
    assert all(p.grad.isfinite().all() for p in task.parameters() if p.grad is not None)


@pytest.mark.parametrize("positions", ["learned", "rope_2d"])
def test_the_encoder_of_mae_sees_the_kept_patches_alone(positions: str) -> None:
    task = build("mae", ViTConfig(**{**to_dict(MODEL), "positions": positions}))
    images, other = torch.randn(2, 2, 3, 32, 32)
    mask = mask_by_noise(torch.rand(2, 16), 0.75)
    hidden = mask.hidden.unflatten(1, (4, 4)).repeat_interleave(8, 1).repeat_interleave(8, 2).unsqueeze(1)
    changed = torch.where(hidden, other, images)
    torch.testing.assert_close(task.visible(changed, mask.kept), task.visible(images, mask.kept))
    assert task.visible(images, mask.kept).shape == (2, 1 + 4, 32)
    everything = torch.arange(16).expand(2, -1)
    torch.testing.assert_close(task.visible(images, everything), task.vit(images).tokens)


def test_what_cannot_be_pretrained_is_refused() -> None:
    with pytest.raises(vitrail.UserError, match=r"embed\.kind=patch"):
        build("mae", ViTConfig(**{**to_dict(MODEL), "embed": {"kind": "conv"}}))
    with pytest.raises(vitrail.UserError, match="not a multiple of the patch size"):
        build("simmim", ViTConfig(**{**to_dict(MODEL), "patch_size": 32}))


def test_masks() -> None:
    mask = mask_by_noise(torch.rand(5, 37), 0.75)
    assert mask.kept.shape == (5, 9)
    assert (mask.hidden.sum(1) == 28).all()
    tokens = torch.randn(5, 37, 4)
    assert torch.equal(mask.hidden.nonzero()[:, 1].unflatten(0, (5, 28)), mask.dropped.sort(1).values)
    order = torch.cat((mask.kept, mask.dropped), dim=1)
    assert torch.equal(order.sort(1).values, torch.arange(37).expand(5, -1))
    shuffled = take(tokens, mask.restore.argsort(1))
    assert torch.equal(take(shuffled, mask.restore), tokens)
    assert torch.equal(shuffled[:, :9], take(tokens, mask.kept))

    hidden = mask_blocks(torch.rand(3, 6), (4, 5), 0.6, (2, 2)).unflatten(1, (4, 5))
    assert hidden.shape == (3, 4, 5)
    blocks = hidden[:, ::2, ::2]
    assert (blocks.sum((1, 2)) == 4).all()  # ⌈6 · 0.6⌉
    assert torch.equal(blocks.repeat_interleave(2, 1).repeat_interleave(2, 2)[:, :, :5], hidden)


@methods
def test_a_pretrained_file_opens_embeds_and_converts(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = build(name)
    predictor = vitrail.Predictor(task, PreprocessConfig(size=32), device="cpu")
    predictor.save(tmp_path / "own.safetensors")
    image = torch.randint(0, 256, (3, 40, 40), dtype=torch.uint8)
    again = vitrail.load(tmp_path / "own.safetensors", device="cpu")
    assert again.embed(image).shape == (32,)
    with pytest.raises(vitrail.UserError, match="fine-tune it"):
        again.predict(image)

    for library in ("huggingface", "timm"):
        vitrail.convert(tmp_path / "own.safetensors", tmp_path / library, to=library)
        whole = library == "huggingface" and name in KEPT_WHOLE
        assert (f"of {name} is left out" in capsys.readouterr().err) != whole
        found = open_checkpoint(tmp_path / library).load()
        assert found.name == (name if whole else "features")
        kept, expected = (found, task) if whole else (found.vit, image_encoder(task))
        assert all(torch.equal(value, expected.state_dict()[key]) for key, value in kept.state_dict().items())
