"""OpenAI's CLIP: transformers computes the same from the same tensors under its own names.

open_clip's further settings are compared with a vision tower of a few lines that has its equations and names, and
with open_clip itself where it is installed; it is no test dependency.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from vitrail.build import open_checkpoint
from vitrail.checkpoints import foreign
from vitrail.checkpoints.description import Description
from vitrail.data.transforms.preprocess import Preprocess
from vitrail.errors import UserError

DIM, HEADS = 128, 2
_NAMES = {
    "vision_model.embeddings.class_embedding": "class_embedding",
    "vision_model.embeddings.patch_embedding.": "conv1.",
    "vision_model.embeddings.position_embedding.weight": "positional_embedding",
    "vision_model.pre_layrnorm.": "ln_pre.",
    "vision_model.post_layernorm.": "ln_post.",
    "vision_model.encoder.layers.": "transformer.resblocks.",
    ".layer_norm1.": ".ln_1.",
    ".layer_norm2.": ".ln_2.",
    ".self_attn.out_proj.": ".attn.out_proj.",
    ".mlp.fc1.": ".mlp.c_fc.",
    ".mlp.fc2.": ".mlp.c_proj.",
}


def openai_names(model: nn.Module) -> dict[str, Tensor]:
    """transformers' state dict as OpenAI names it."""
    found, state = {}, model.state_dict()
    for name, value in state.items():
        if ".q_proj." in name:
            rest = [state[name.replace(".q_proj.", f".{part}_proj.")] for part in "kv"]
            name, value = name.replace(".self_attn.q_proj.", ".attn.in_proj_"), torch.cat((value, *rest))
        elif ".k_proj." in name or ".v_proj." in name or name.endswith("position_ids"):
            continue
        for old, new in _NAMES.items():
            name = name.replace(old, new)
        if name == "visual_projection.weight":
            name, value = "proj", value.T
        found[f"visual.{name}"] = value.contiguous()
    return found


@pytest.fixture
def theirs(randomise: Callable[[nn.Module], nn.Module], request: pytest.FixtureRequest) -> Any:
    config = CLIPVisionConfig(
        hidden_size=DIM, intermediate_size=192, num_hidden_layers=2, num_attention_heads=HEADS, image_size=32,
        patch_size=8, projection_dim=24, hidden_act=getattr(request, "param", "quick_gelu"),
        attn_implementation="eager",
    )  # fmt: skip
    return randomise(CLIPVisionModelWithProjection(config))


def store(state: dict[str, Tensor], folder: Path, config: dict[str, Any] | None = None) -> Path:
    text = {
        "positional_embedding": torch.randn(7, 16),
        "token_embedding.weight": torch.randn(9, 16),
        "transformer.resblocks.0.ln_1.weight": torch.randn(16),
        "text_projection": torch.randn(16, 24),
        "ln_final.weight": torch.randn(16),
        "logit_scale": torch.randn(1),
    }
    folder.mkdir(exist_ok=True)
    save_file(state | text, folder / "open_clip_model.safetensors")
    if config is not None:
        (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


def test_openais_compute_the_same(theirs: Any, close: Callable[..., None], tmp_path: Path) -> None:
    state = openai_names(theirs)
    found = open_checkpoint(store(state, tmp_path / "in"))
    assert found.dialect == "openai_clip"
    assert any("QuickGELU" in line for line in found.assumed)
    ours, images = found.load().eval(), torch.randn(2, 3, 32, 32)
    assert ours.name == "features"
    with torch.no_grad():
        expected = theirs(images, output_hidden_states=True, output_attentions=True)
        close(ours(images), expected.image_embeds)
        for mine, other in zip(ours.vit.intermediates(images), expected.hidden_states[1:], strict=True):
            close(mine.tokens, other)
        for weights, other in zip(ours.vit.attentions(images), expected.attentions, strict=True):
            close(weights, other)
    foreign.save("openai_clip", tmp_path / "out", Description.of(ours, found.preprocess), ours.state_dict())
    written = load_file(tmp_path / "out" / "open_clip_model.safetensors")
    assert written.keys() == state.keys()
    assert all(
        written[name].shape == value.shape and torch.equal(written[name], value) for name, value in state.items()
    )
    again = open_checkpoint(tmp_path / "out")
    assert again.task.config == found.task.config
    assert again.preprocess == found.preprocess
    assert not again.assumed


@pytest.mark.parametrize("theirs", ["gelu"], indirect=True)
def test_open_clips_have_exact_gelu(theirs: Any, close: Callable[..., None], tmp_path: Path) -> None:
    config = {
        "model_cfg": {"embed_dim": 24, "vision_cfg": {"image_size": 32, "layers": 2, "width": DIM, "patch_size": 8}}
    }
    store(openai_names(theirs), tmp_path, config)
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')  # a folder for transformers too
    ours, images = open_checkpoint(tmp_path).load().eval(), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        close(ours(images), theirs(images).image_embeds)


def test_half_precision(theirs: Any, close: Callable[..., None], tmp_path: Path) -> None:
    state = {name: value.half() for name, value in openai_names(theirs).items()}
    ours = open_checkpoint(store(state, tmp_path)).load()
    assert all(value.dtype == torch.float32 for value in ours.state_dict().values())
    close(ours.state_dict()["head.output.weight"], state["visual.proj"].float().T)


def tower(state: dict[str, Tensor], images: Tensor, *, tanh: bool, eps: float, mean: bool, after_pool: bool) -> Tensor:
    """open_clip's VisionTransformer: LayerScale on both branches, tokens or their mean, norm before or after it."""
    s = {name.removeprefix("visual."): value for name, value in state.items()}

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], s[f"{name}.weight"], s[f"{name}.bias"], eps)

    x = F.conv2d(images, s["conv1.weight"], stride=8).flatten(2).transpose(1, 2)
    x = torch.cat((s["class_embedding"].expand(len(x), 1, -1), x), dim=1) + s["positional_embedding"]
    for i in range(2):
        b = f"transformer.resblocks.{i}."
        qkv = F.linear(norm(x, f"{b}ln_1"), s[f"{b}attn.in_proj_weight"], s[f"{b}attn.in_proj_bias"])
        q, k, v = (each.unflatten(-1, (HEADS, -1)).transpose(1, 2) for each in qkv.chunk(3, -1))
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + s[f"{b}ls_1.gamma"] * F.linear(mixed, s[f"{b}attn.out_proj.weight"], s[f"{b}attn.out_proj.bias"])
        y = F.linear(norm(x, f"{b}ln_2"), s[f"{b}mlp.c_fc.weight"], s[f"{b}mlp.c_fc.bias"])
        y = F.gelu(y, approximate="tanh" if tanh else "none")
        x = x + s[f"{b}ls_2.gamma"] * F.linear(y, s[f"{b}mlp.c_proj.weight"], s[f"{b}mlp.c_proj.bias"])
    x = x if after_pool else norm(x, "ln_post")
    x = x[:, 1:].mean(1) if mean else x[:, 0]
    x = norm(x, "ln_post") if after_pool else x
    return x @ s["proj"]


@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("after_pool", [False, True])
@pytest.mark.parametrize("tanh", [False, True])
def test_open_clips_further_settings(
    theirs: Any, mean: bool, after_pool: bool, tanh: bool, close: Callable[..., None], tmp_path: Path
) -> None:
    state = {name: value for name, value in openai_names(theirs).items() if "ln_pre" not in name}
    for i, name in ((0, "ls_1"), (0, "ls_2"), (1, "ls_1"), (1, "ls_2")):
        state[f"visual.transformer.resblocks.{i}.{name}.gamma"] = torch.randn(DIM)
    vision = {
        "image_size": 32, "layers": 2, "width": DIM, "patch_size": 8, "mlp_ratio": 1.5, "ls_init_value": 0.1,
        "no_ln_pre": True, "pool_type": "avg" if mean else "tok", "final_ln_after_pool": after_pool,
        "act_kwargs": {"approximate": "tanh"} if tanh else None, "norm_kwargs": {"eps": 1e-3}, "head_width": 64,
    }  # fmt: skip
    found = open_checkpoint(store(state, tmp_path / "in", {"model_cfg": {"embed_dim": 24, "vision_cfg": vision}}))
    ours, images = found.load().eval(), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        close(ours(images), tower(state, images, tanh=tanh, eps=1e-3, mean=mean, after_pool=after_pool))
    foreign.save("openai_clip", tmp_path / "out", Description.of(ours, found.preprocess), ours.state_dict())
    written = json.loads((tmp_path / "out" / "open_clip_config.json").read_text())["model_cfg"]
    assert written["vision_cfg"] == vision
    assert load_file(tmp_path / "out" / "open_clip_model.safetensors").keys() == state.keys()
    assert open_checkpoint(tmp_path / "out").task.config == found.task.config


SETTINGS = [
    {"quick_gelu": True},
    {"vision_cfg": {"ls_init_value": 0.1, "act_kwargs": {"approximate": "tanh"}}},
    {"vision_cfg": {"no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True, "norm_kwargs": {"eps": 1e-6}}},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_open_clip_itself(
    settings: dict[str, Any], randomise: Callable[[nn.Module], nn.Module], close: Callable[..., None], tmp_path: Path
) -> None:
    open_clip = pytest.importorskip("open_clip", reason="open_clip is not installed")
    from open_clip.model import resize_pos_embed

    text = {"context_length": 7, "vocab_size": 9, "width": 16, "heads": 1, "layers": 1}
    vision = {"image_size": 32, "patch_size": 8, "width": DIM, "layers": 2, "mlp_ratio": 1.5}
    config = {"embed_dim": 24, **settings, "vision_cfg": vision | settings.get("vision_cfg", {})}
    theirs, images = randomise(open_clip.CLIP(**config, text_cfg=text)), torch.randn(2, 3, 32, 32)
    save_file(theirs.state_dict(), tmp_path / "open_clip_model.safetensors")
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": {**config, "text_cfg": text}}))
    found = open_checkpoint(tmp_path)
    ours = found.load().eval()
    with torch.no_grad():
        close(ours(images), theirs.encode_image(images))

    foreign.save("openai_clip", tmp_path / "out", Description.of(ours, found.preprocess), ours.state_dict())
    config = json.loads((tmp_path / "out" / "open_clip_config.json").read_text())
    state = load_file(tmp_path / "out" / "open_clip_model.safetensors")
    written = open_clip.CLIP(**config["model_cfg"], text_cfg=text).eval()
    missing, unexpected = written.load_state_dict(state, strict=False)
    assert not unexpected
    assert not any(name.startswith("visual.") for name in missing)
    with torch.no_grad():
        assert torch.equal(written.encode_image(images), theirs.encode_image(images))

    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 71, 3), np.uint8))
    preprocess = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(**config["preprocess_cfg"]), is_train=False
    )
    torch.testing.assert_close(Preprocess(found.preprocess)(picture), preprocess(picture), rtol=0, atol=1e-5)

    config["model_cfg"]["vision_cfg"]["image_size"], images = 56, torch.randn(2, 3, 56, 56)
    larger = open_clip.CLIP(**config["model_cfg"], text_cfg=text).eval()
    resize_pos_embed(state, larger)
    larger.load_state_dict(state, strict=False)
    with torch.no_grad():
        close(ours(images), larger.encode_image(images))


def test_preprocessing(theirs: Any, tmp_path: Path) -> None:
    state = openai_names(theirs)
    clip = open_checkpoint(store(state, tmp_path / "a")).preprocess
    assert (clip.resize, clip.crop_pct, clip.interpolation) == ("crop", 1, "bicubic")
    assert clip.mean == (0.48145466, 0.4578275, 0.40821073)
    given = {"size": [32, 32], "mode": "RGB", "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25],
             "interpolation": "bilinear", "resize_mode": "squash"}  # fmt: skip
    config = {"model_cfg": {"embed_dim": 24, "quick_gelu": True, "vision_cfg": {"width": DIM}}, "preprocess_cfg": given}
    found = open_checkpoint(store(state, tmp_path / "b", config))
    assert (found.preprocess.resize, found.preprocess.interpolation, found.preprocess.std) == (
        "square",
        "bilinear",
        (0.25,) * 3,
    )
    assert not found.assumed
    foreign.save("openai_clip", tmp_path / "c", Description.of(found.task, found.preprocess), found.load().state_dict())
    assert json.loads((tmp_path / "c" / "open_clip_config.json").read_text())["preprocess_cfg"] == given


@pytest.mark.parametrize(
    ("setting", "words"),
    [({"attentional_pool": True}, "attentional_pool"), ({"pool_type": "none"}, "pool_type=none"),
     ({"act_kwargs": {"approximate": "sigmoid"}}, "none of GELU's"), ({"head_width": 0}, "do not tell a model")],
)  # fmt: skip
def test_what_cannot_be_computed_is_refused(theirs: Any, setting: dict[str, Any], words: str, tmp_path: Path) -> None:
    config = {"model_cfg": {"vision_cfg": {"width": DIM, **setting}}}
    with pytest.raises(UserError, match=words):
        open_checkpoint(store(openai_names(theirs), tmp_path, config))
