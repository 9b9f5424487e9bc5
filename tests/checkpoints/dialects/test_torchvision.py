"""torchvision's VisionTransformer computes the same, both ways."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision.models import get_model_weights
from torchvision.models.vision_transformer import ConvStemConfig, VisionTransformer, interpolate_embeddings

from vitrail.build import open_checkpoint
from vitrail.checkpoints import foreign, pooled
from vitrail.checkpoints.description import Description
from vitrail.data.transforms.preprocess import Preprocess
from vitrail.errors import UserError

SIZES: dict[str, Any] = {
    "image_size": 32, "patch_size": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 128, "mlp_dim": 96,
}  # fmt: skip


@pytest.fixture
def theirs(randomise: Callable[[nn.Module], nn.Module], request: pytest.FixtureRequest) -> VisionTransformer:
    return randomise(VisionTransformer(**SIZES, **getattr(request, "param", {"num_classes": 5})))


def store(model: nn.Module, folder: Path, **rename: str) -> Path:
    folder.mkdir(exist_ok=True)
    state = model.state_dict()
    for new, old in rename.items():
        state = {name.replace(old, new): value for name, value in state.items()}
    save_file(state, folder / "model.safetensors")
    return folder / "model.safetensors"


@pytest.mark.parametrize("theirs", [{"num_classes": 5}, {"num_classes": 5, "representation_size": 24}], indirect=True)
def test_both_compute_the_same(theirs: VisionTransformer, close: Callable[..., None], tmp_path: Path) -> None:
    found = open_checkpoint(store(theirs, tmp_path / "in"))
    assert found.dialect == "torchvision"
    assert any(line.startswith("attention heads: 2") for line in found.assumed)
    ours, images = found.load().eval(), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        close(ours(images), theirs(images))

    foreign.save("torchvision", tmp_path / "out", Description.of(ours, found.preprocess), ours.state_dict())
    written = VisionTransformer(**json.loads((tmp_path / "out" / "config.json").read_text()))
    written.load_state_dict(load_file(tmp_path / "out" / "model.safetensors"))
    with torch.no_grad():
        assert torch.equal(written.eval()(images), theirs(images))


def test_hidden_states_and_attention_agree(
    theirs: VisionTransformer, close: Callable[..., None], tmp_path: Path
) -> None:
    ours, images = open_checkpoint(store(theirs, tmp_path)).load().eval(), torch.randn(2, 3, 32, 32)
    states, maps = [], []
    for block in theirs.encoder.layers:
        block.register_forward_hook(lambda module, given, made: states.append(made))
        block.self_attention.register_forward_pre_hook(lambda module, given: maps.append(weights(module, given[0])))

    def weights(module: nn.MultiheadAttention, x: torch.Tensor) -> torch.Tensor:
        q, k, _ = nn.functional.linear(x, module.in_proj_weight, module.in_proj_bias).chunk(3, dim=-1)
        q, k = (each.unflatten(-1, (module.num_heads, -1)).transpose(1, 2) for each in (q, k))
        return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)

    with torch.no_grad():
        theirs(images)
        for mine, other in zip(ours.vit.intermediates(images), states, strict=True):
            close(mine.tokens, other)
        for map_, other in zip(ours.vit.attentions(images), maps, strict=True):
            close(map_, other)


def test_at_another_size_positions_are_resampled_alike(
    theirs: VisionTransformer, close: Callable[..., None], tmp_path: Path
) -> None:
    ours, images = open_checkpoint(store(theirs, tmp_path)).load().eval(), torch.randn(2, 3, 56, 56)
    larger = VisionTransformer(**SIZES | {"image_size": 56}, num_classes=5).eval()
    larger.load_state_dict(interpolate_embeddings(56, 8, theirs.state_dict(), "bicubic"))
    with torch.no_grad():
        close(ours(images), larger(images))


def test_legacy_names(theirs: VisionTransformer, close: Callable[..., None], tmp_path: Path) -> None:
    path = store(theirs, tmp_path, **{"mlp.linear_1.": "mlp.0.", "mlp.linear_2.": "mlp.3."})
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        close(open_checkpoint(path).load().eval()(images), theirs(images))


@pytest.mark.parametrize(
    ("name", "weights", "seen"),
    [("vit_b_16", "IMAGENET1K_V1", 224), ("vit_b_16", "IMAGENET1K_SWAG_E2E_V1", 384),
     ("vit_l_16", "IMAGENET1K_V1", 224), ("vit_h_14", "IMAGENET1K_SWAG_E2E_V1", 518)],
)  # fmt: skip
def test_published_models_are_recognised(name: str, weights: str, seen: int) -> None:
    from vitrail.checkpoints.beside import Beside
    from vitrail.checkpoints.dialects import torchvision as dialect

    dim, patch = {"b": 768, "l": 1024, "h": 1280}[name[4]], int(name[-2:])
    shapes = {
        "conv_proj.weight": (dim, 3, patch, patch),
        "encoder.pos_embedding": (1, (seen // patch) ** 2 + 1, dim),
        "encoder.layers.encoder_layer_0.mlp.0.weight": (4 * dim, dim),
        "heads.head.weight": (1000, dim),
    }
    found = dialect.describe(shapes, Beside())
    model = pooled.read(found)
    published = get_model_weights(name)[weights]
    assert model.classes == tuple(published.meta["categories"])
    assert any(f"{name} {weights}" in line for line in found.assumed)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 401, 3), np.uint8))
    assert model.preprocess is not None
    made, expected = Preprocess(model.preprocess)(image), published.transforms()(image)
    assert made.shape == expected.shape == (3, seen, seen)
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-5)


def test_preprocessing_and_classes_survive(theirs: VisionTransformer, tmp_path: Path) -> None:
    store(theirs, tmp_path)
    (tmp_path / "classes.json").write_text('["ant", "bee", "cat", "dog", "eel"]')
    first = open_checkpoint(tmp_path)
    assert first.task.config.classes[3] == "dog"
    assert (first.preprocess.size, first.preprocess.resize, first.preprocess.crop_pct) == ((32, 32), "crop", 32 / 37)
    foreign.save(
        "torchvision", tmp_path / "out", Description.of(first.task, first.preprocess), first.load().state_dict()
    )
    again = open_checkpoint(tmp_path / "out")
    assert again.preprocess == first.preprocess
    assert again.task.config == first.task.config
    assert not again.assumed


def test_without_a_head(theirs: VisionTransformer, tmp_path: Path) -> None:
    theirs.heads = nn.Identity()
    found = open_checkpoint(store(theirs, tmp_path))
    assert found.task.name == "features"
    ours, images = found.load().eval(), torch.randn(1, 3, 32, 32)
    foreign.save("torchvision", tmp_path / "out", Description.of(ours, found.preprocess), ours.state_dict())
    theirs.load_state_dict(load_file(tmp_path / "out" / "model.safetensors"))
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-5, atol=1e-5)


def test_a_convolutional_stem_is_refused(tmp_path: Path) -> None:
    stem = [ConvStemConfig(8, 3, 2), ConvStemConfig(16, 3, 2), ConvStemConfig(16, 3, 2)]
    store(VisionTransformer(**SIZES, conv_stem_configs=stem), tmp_path)
    with pytest.raises(UserError, match="convolutional stem"):
        open_checkpoint(tmp_path)
