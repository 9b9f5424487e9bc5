"""What both checkouts start from: pictures, tables, scenes, and random models of other libraries. No Vitrail here."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

NAMES = ("ant", "bee", "cat")
HF = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "image_size": 32,
    "patch_size": 8,
}  # fmt: skip
LABELS = {"id2label": dict(enumerate(NAMES)), "label2id": {name: i for i, name in enumerate(NAMES)}}
TIMM = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "num_classes": 3}


def write(folder: Path) -> None:
    """Everything below a new folder."""
    _photos(folder / "photos")
    _tables(folder)
    _scenes(folder / "scenes")
    _foreign(folder / "foreign")


def _photos(folder: Path) -> None:
    """Twelve smooth pictures a class, of several sizes, with 3 more to be looked at."""
    draw = np.random.default_rng(0)
    for label, name in enumerate(NAMES):
        (folder / name).mkdir(parents=True)
        for index in range(12):
            size = tuple(draw.integers(24, 48, 2).tolist())
            _picture(draw, size, label).save(folder / name / f"{index:02}.png")
    looked_at = folder.parent / "looked_at"
    looked_at.mkdir()
    for index, size in enumerate(((40, 32), (30, 50), (36, 36))):
        _picture(draw, size, index).save(looked_at / f"{index}.png")


def _picture(draw: np.random.Generator, size: tuple[int, int], label: int) -> Image.Image:
    coarse = draw.integers(0, 160, (4, 4, 3), np.uint8)
    coarse[..., label] += 90
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def _tables(folder: Path) -> None:
    """Tables of the same pictures: a class, several labels, two numbers each."""
    paths = sorted((folder / "photos").rglob("*.png"))
    draw = np.random.default_rng(1)
    classes = [("path", "label")]
    several = [("path", "labels")]
    numbers = [("path", "height", "weight")]
    for path in paths:
        name = str(path.relative_to(folder))
        chosen = [label for label in NAMES if label == path.parent.name or draw.random() < 0.3]
        classes.append((name, path.parent.name))
        several.append((name, "|".join(chosen)))
        numbers.append((name, f"{draw.normal(1.5, 0.3):.3f}", f"{draw.normal(60, 9):.2f}"))
    for name, rows in (("classes.csv", classes), ("multilabel.csv", several), ("regression.csv", numbers)):
        with (folder / name).open("w", newline="") as file:
            csv.writer(file).writerows(rows)


def _scenes(root: Path) -> None:
    """Sixteen pictures of one to three things, as Pascal VOC annotates them, with masks and maps of classes."""
    draw = np.random.default_rng(2)
    for part in ("JPEGImages", "Annotations", "SegmentationClass", "SegmentationObject"):
        (root / part).mkdir(parents=True)
    for number in range(16):
        height, width = draw.integers(26, 44, 2).tolist()
        pixels = draw.integers(0, 90, (height, width, 3), np.uint8)
        things, classes = np.zeros((2, height, width), np.uint8)
        objects = []
        for thing in range(int(draw.integers(1, 4))):
            left, top = thing * width // 3 + 1, int(draw.integers(0, height // 2))
            right, bottom = left + width // 3 - 2, top + int(draw.integers(6, height // 2))
            label = int(draw.integers(0, 3)) if number > 2 else (number + thing) % 3
            part = (slice(top, bottom), slice(left, right))
            pixels[part], things[part], classes[part] = 120 + 60 * label, thing + 1, label + 1
            corners = zip(("xmin", "ymin", "xmax", "ymax"), (left, top, right, bottom), strict=True)
            box = "".join(f"<{name}>{value}</{name}>" for name, value in corners)
            objects.append(
                f"<object><name>{NAMES[label]}</name><difficult>0</difficult><bndbox>{box}</bndbox></object>"
            )
        size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
        (root / f"Annotations/{number:02}.xml").write_text(f"<annotation>{size}{''.join(objects)}</annotation>")
        Image.fromarray(pixels).save(root / f"JPEGImages/{number:02}.png")
        Image.fromarray(things).save(root / f"SegmentationObject/{number:02}.png")
        Image.fromarray(classes).save(root / f"SegmentationClass/{number:02}.png")


def _foreign(folder: Path) -> None:
    """A folder for each library's kind of model, with random weights."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    for name, model in _huggingface():
        _randomise(model).save_pretrained(folder / name)
    for name, model in _timm():
        _timm_folder(_randomise(model), folder / name)
    for name, model, prefix in _bare():
        _state_folder(_randomise(model), folder / name, prefix)


def _huggingface() -> Iterator[tuple[str, Any]]:
    import transformers as hf

    registers = {"num_register_tokens": 2}
    dinov2 = {**{k: v for k, v in HF.items() if k != "intermediate_size"}, "mlp_ratio": 2, "patch_size": 8}
    decoder = {
        "decoder_hidden_size": 24, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2,
        "decoder_intermediate_size": 48,
    }  # fmt: skip
    text = {
        "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24, "vocab_size": 20,
        "max_position_embeddings": 8,
    }  # fmt: skip
    yield "hf_vit", hf.ViTForImageClassification(hf.ViTConfig(**HF, **LABELS))
    yield "hf_deit", hf.DeiTForImageClassificationWithTeacher(hf.DeiTConfig(**HF, **LABELS))
    yield (
        "hf_beit",
        hf.BeitForImageClassification(
            hf.BeitConfig(**HF, **LABELS, use_relative_position_bias=True, use_mean_pooling=True)
        ),
    )
    yield "hf_clip", hf.CLIPVisionModelWithProjection(hf.CLIPVisionConfig(**HF, projection_dim=24))
    yield "hf_siglip", hf.SiglipVisionModel(hf.SiglipVisionConfig(**HF))
    yield (
        "hf_siglip_classifier",
        hf.SiglipForImageClassification(hf.SiglipConfig(text_config=text, vision_config=HF, **LABELS)),
    )
    yield "hf_dinov2", hf.Dinov2ForImageClassification(hf.Dinov2Config(**dinov2, **LABELS))
    yield "hf_dinov2_swiglu", hf.Dinov2Model(hf.Dinov2Config(**dinov2, use_swiglu_ffn=True))
    yield (
        "hf_dinov2_registers",
        hf.Dinov2WithRegistersForImageClassification(hf.Dinov2WithRegistersConfig(**dinov2, **registers, **LABELS)),
    )
    yield "hf_mae", hf.ViTMAEForPreTraining(hf.ViTMAEConfig(**HF, **decoder))
    yield "hf_masked_image", hf.ViTForMaskedImageModeling(hf.ViTConfig(**HF, encoder_stride=8))


def _timm() -> Iterator[tuple[str, Any]]:
    import timm

    yield "timm_vit", timm.create_model("vit_base_patch16_224", **TIMM)
    yield "timm_deit3", timm.create_model("deit3_base_patch16_224", **TIMM)
    yield "timm_siglip", timm.create_model("vit_base_patch16_siglip_224", **TIMM)
    yield "timm_registers", timm.create_model("vit_medium_patch16_reg4_gap_256", **TIMM)
    hybrid = {**TIMM, "img_size": 64, "patch_size": 1}
    del hybrid["patch_size"]
    yield "timm_hybrid", timm.create_model("vit_tiny_r_s16_p8_224", **hybrid)
    yield "timm_beit", timm.create_model("beit_base_patch16_224", **TIMM)


def _bare() -> Iterator[tuple[str, Any, str]]:
    import open_clip.transformer
    import vit_pytorch
    from torchvision.models import VisionTransformer

    yield (
        "torchvision",
        VisionTransformer(
            image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=128, mlp_dim=96, num_classes=3
        ),
        "",
    )
    yield (
        "openai_clip",
        open_clip.transformer.VisionTransformer(
            image_size=32, patch_size=8, width=128, layers=2, heads=2, mlp_ratio=1.5, output_dim=24
        ),
        "visual.",
    )
    yield (
        "vit_pytorch",
        vit_pytorch.ViT(image_size=32, patch_size=8, num_classes=3, dim=32, depth=2, heads=2, dim_head=64, mlp_dim=48),
        "",
    )


def _randomise(model: Any) -> Any:
    """Every parameter drawn afresh, so that nothing agrees by being 0 or 1."""
    import torch

    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def _timm_folder(model: Any, folder: Path) -> None:
    from timm.models import save_for_hf

    save_for_hf(model, str(folder), safe_serialization=True)


def _state_folder(model: Any, folder: Path, prefix: str) -> None:
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    state = {f"{prefix}{name}": value.contiguous() for name, value in model.state_dict().items()}
    save_file(state, folder / "model.safetensors")
    if not prefix:
        (folder / "classes.json").write_text(json.dumps(NAMES))
