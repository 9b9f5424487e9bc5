"""Does every dialect compute what its library does? A table of the largest differences on tiny random models.

    python benchmarks/parity.py [DIALECT…] [--json]

Each row: a model of the library with random weights is saved as the library saves it, read here, and both are run on
the same images; then what we write of it is read here again. The difference is a share of the largest output; the exit
status is 1 where one is over 1e-5. Libraries that are not installed are named.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

LIMIT = 1e-5
SIZES = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "image_size": 32,
    "patch_size": 8,
}  # fmt: skip
TIMM: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 4, "num_classes": 5}


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        difference: the largest, as a share of the largest output; None: it was not made.
        note: why not.
    """

    dialect: str
    model: str
    library: str
    difference: float | None
    note: str = ""


@dataclass(frozen=True)
class Case:
    """One model of a library.

    Attributes:
        library: a distribution, whose version the table names.
        make: the model with random weights, without them set.
        save: writes it as the library does.
        theirs: what it computes of images.
        ours: what our task computes of them, to be compared.
    """

    dialect: str
    model: str
    library: str
    make: Callable[[], nn.Module]
    save: Callable[[Any, Path], object]
    theirs: Callable[[Any, Tensor], Tensor]
    ours: Callable[[Any, Tensor], Tensor] = lambda task, x: task(x)
    size: int = 32


def randomised(model: nn.Module) -> nn.Module:
    """Every parameter drawn, so that nothing agrees by being 0 or 1; in evaluation mode."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model.eval()


def tokens(task: Any, x: Tensor) -> Tensor:
    """All of the encoder's output tokens."""
    out: Tensor = task.vit(x).tokens
    return out


def huggingface(
    dialect: str,
    kind: str,
    config: str,
    theirs: Callable[[Any, Tensor], Tensor],
    ours: Callable[[Any, Tensor], Tensor] = lambda task, x: task(x),
    **settings: Any,
) -> Case:
    """A class of transformers."""

    def make() -> nn.Module:
        import transformers

        model: nn.Module = getattr(transformers, kind)(getattr(transformers, config)(**{**SIZES, **settings}))
        return model

    size = settings.get("image_size", 32)
    size = size if isinstance(size, int) else size[0]
    return Case(dialect, kind, "transformers", make, lambda m, out: m.save_pretrained(out), theirs, ours, size)


def timm(dialect: str, name: str, **arguments: Any) -> Case:
    """An architecture of timm."""

    def make() -> nn.Module:
        from timm import create_model

        model: nn.Module = create_model(name, **{**TIMM, **arguments})
        return model

    def save(model: Any, out: Path) -> None:
        from timm.models import save_for_hf

        save_for_hf(model, str(out), safe_serialization=True)

    return Case(dialect, name, "timm", make, save, lambda model, x: model(x))


def state(dialect: str, model: str, library: str, make: Callable[[], nn.Module]) -> Case:
    """A library that keeps its state dict alone."""

    def save(module: nn.Module, out: Path) -> None:
        from safetensors.torch import save_file

        out.mkdir()
        save_file({name: value.contiguous() for name, value in module.state_dict().items()}, out / "model.safetensors")

    return Case(dialect, model, library, make, save, lambda module, x: module(x))


def lw_detr() -> Case:
    """Its backbone has a config of its own; BatchNorm has other statistics than at first."""

    def make() -> nn.Module:
        import transformers

        backbone = {**SIZES, "model_type": "lw_detr_vit", "pretrain_image_size": 32, "num_windows": 4}
        backbone |= {"window_block_indices": [0], "out_indices": [1, 2], "mlp_ratio": 2}
        decoder = {"d_model": 32, "decoder_ffn_dim": 64, "num_queries": 5, "group_detr": 3}
        heads = {"decoder_self_attention_heads": 4, "decoder_cross_attention_heads": 4, "c2f_num_blocks": 2}
        config = transformers.LwDetrConfig(
            backbone_config=backbone, projector_scale_factors=[0.5, 1.0, 2.0], **decoder, **heads
        )
        model: nn.Module = transformers.LwDetrForObjectDetection(config)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
        return model

    def save(model: Any, out: Path) -> None:
        model.save_pretrained(out)

    def theirs(model: Any, x: Tensor) -> Tensor:
        out: Tensor = model(x).logits.sigmoid()
        return out

    return Case("hf_lw_detr", "LwDetrForObjectDetection", "transformers", make, save, theirs, found)


def swin2sr(**settings: Any) -> Case:
    """A class of transformers with sizes of its own."""

    def make() -> nn.Module:
        import transformers

        sizes = {"embed_dim": 16, "depths": [2, 2], "num_heads": [2, 2], "window_size": 8, "image_size": 32}
        config = transformers.Swin2SRConfig(**{**sizes, **settings})
        model: nn.Module = transformers.Swin2SRForImageSuperResolution(config)
        return model

    def theirs(model: Any, x: Tensor) -> Tensor:
        out: Tensor = model(x).reconstruction
        return out

    def save(model: Any, out: Path) -> None:
        model.save_pretrained(out)

    name = f"Swin2SRForImageSuperResolution {settings['upsampler']}"
    return Case("hf_swin2sr", name, "transformers", make, save, theirs)


def swinir(**settings: Any) -> Case:
    """The authors' model as spandrel has it."""

    def make() -> nn.Module:
        from spandrel.architectures.SwinIR import SwinIR

        sizes = {"embed_dim": 16, "depths": [2, 2], "num_heads": [2, 2], "window_size": 8, "img_size": 32}
        model: nn.Module = SwinIR(**{**sizes, "mlp_ratio": 2, **settings})
        return model

    return state("swinir", f"SwinIR {settings['upsampler'] or 'without upsampler'}", "spandrel", make)


def naflex(model: Any, x: Tensor) -> Tensor:
    """Images of one size as NaFlex's processor hands them over."""
    rows, columns = (side // 8 for side in x.shape[-2:])
    patches = x.unflatten(2, (rows, 8)).unflatten(4, (columns, 8)).permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
    mask = torch.ones(patches.shape[:2], dtype=torch.long)
    out: Tensor = model(patches, mask, torch.tensor([[rows, columns]] * len(x))).pooler_output
    return out


def before_neck(model: Any, x: Tensor) -> Tensor:
    """SAM's tokens after the last block."""
    outputs: list[Tensor] = []
    hook = model.vision_encoder.layers[-1].register_forward_hook(lambda module, args, out: outputs.append(out))
    model(x)
    hook.remove()
    return outputs[0].flatten(1, 2)


def radio(task: Any, x: Tensor) -> Tensor:
    """Ours, of pixels that its preprocessing has normalised."""
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    normalised = (x - torch.tensor(mean).reshape(-1, 1, 1)) / torch.tensor(std).reshape(-1, 1, 1)
    out: Tensor = task(normalised)
    return out


def torchvision_vit() -> nn.Module:
    from torchvision.models import VisionTransformer

    return VisionTransformer(32, 8, 2, 1, 64, 128, num_classes=1000)  # a file alone: heads of 64 channels


def vit_pytorch_vit() -> nn.Module:
    from vit_pytorch import ViT

    model: nn.Module = ViT(image_size=32, patch_size=8, num_classes=5, dim=128, depth=2, heads=2, mlp_dim=64)
    return model


def logits(model: Any, x: Tensor) -> Tensor:
    out: Tensor = model(x).logits
    return out


def pooler(model: Any, x: Tensor) -> Tensor:
    out: Tensor = model(x).pooler_output
    return out


def last(model: Any, x: Tensor) -> Tensor:
    out: Tensor = model(x).last_hidden_state
    return out


def probabilities(model: Any, x: Tensor) -> Tensor:
    """Of each query's classes, without "no object"."""
    return logits(model, x).softmax(dim=-1)[..., :-1]


def found(task: Any, x: Tensor) -> Tensor:
    """The same of ours, without the boxes that follow."""
    out: Tensor = task(x)[..., :-4]
    return out


def cases() -> list[Case]:
    """At least one of each dialect that a library here can run."""
    dinov2 = {"mlp_ratio": 2}
    sam = {"mlp_dim": 64, "image_size": 64, "window_size": 3, "global_attn_indexes": [1], "output_channels": 16}
    dpt = {"backbone_out_indices": [0, 0, 1, 1], "neck_hidden_sizes": [8] * 4}
    yolos = {"num_detection_tokens": 5, "image_size": [32, 32], "use_mid_position_embeddings": False}
    return [
        huggingface("hf_vit", "ViTForImageClassification", "ViTConfig", logits),
        huggingface("hf_deit", "DeiTForImageClassificationWithTeacher", "DeiTConfig", logits),
        huggingface("hf_beit", "BeitForImageClassification", "BeitConfig", logits, use_relative_position_bias=True),
        huggingface("hf_dinov2", "Dinov2ForImageClassification", "Dinov2Config", logits, **dinov2),
        huggingface("hf_dinov2_registers", "Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", pooler, **dinov2),
        huggingface("hf_dinov3", "DINOv3ViTModel", "DINOv3ViTConfig", pooler, num_register_tokens=2),
        huggingface("hf_clip", "CLIPVisionModel", "CLIPVisionConfig", pooler),
        huggingface("hf_siglip", "SiglipVisionModel", "SiglipVisionConfig", pooler),
        huggingface("hf_siglip2", "Siglip2VisionModel", "Siglip2VisionConfig", naflex, num_patches=16),
        huggingface("hf_ijepa", "IJepaForImageClassification", "IJepaConfig", logits),
        huggingface("hf_dpt", "DPTModel", "DPTConfig", last, tokens, **dpt),
        huggingface("hf_sam", "SamVisionModel", "SamVisionConfig", before_neck, tokens, **sam),
        huggingface("hf_radio", "RadioModel", "RadioConfig", lambda m, x: m(x).summary, radio, max_img_size=64),
        huggingface("hf_tipsv2", "Tipsv2VisionModel", "Tipsv2VisionConfig", pooler),
        huggingface("hf_yolos", "YolosForObjectDetection", "YolosConfig", probabilities, found, **yolos),
        lw_detr(),
        swin2sr(upsampler="pixelshuffledirect"),
        swin2sr(upsampler="pixelshuffle", upscale=3),
        swin2sr(upsampler="nearest+conv", upscale=4),
        swinir(upsampler="pixelshuffledirect", upscale=2),
        swinir(upsampler="pixelshuffle", upscale=4),
        swinir(upsampler="nearest+conv", upscale=4, resi_connection="3conv"),
        swinir(upsampler="", upscale=1),
        timm("timm", "vit_base_patch16_224"),
        timm("timm", "vit_base_patch16_siglip_224"),
        timm("timm", "vit_small_patch14_reg4_dinov2"),
        timm("beit", "beit_base_patch16_224"),
        timm("eva", "eva02_base_patch14_224"),
        timm("eva", "eva02_enormous_patch14_clip_224"),
        timm("eva", "vit_small_patch16_rope_224"),
        timm("eva", "vit_small_patch16_rope_mixed_224"),
        timm("eva", "vit_pe_core_base_patch16_224"),
        timm("eva", "vit_pe_spatial_base_patch16_512", num_classes=0, global_pool="token"),
        timm("eva", "vit_small_patch16_dinov3"),
        state("torchvision", "VisionTransformer", "torchvision", torchvision_vit),
        state("vit_pytorch", "ViT", "vit-pytorch", vit_pytorch_vit),
    ]


OTHERS = {
    "google": "big_vision's arrays; tests/checkpoints/dialects/test_google.py compares with timm, which reads them",
    "dinov2": "Meta's names; tests/checkpoints/dialects/test_dinov2.py compares with timm, which converts them",
    "dinov3": "Meta's names; tests/checkpoints/dialects/test_dinov3.py compares with timm, which converts them",
    "openai_clip": "OpenAI's names; tests/checkpoints/dialects/test_openai_clip.py compares with open_clip",
    "hf_mae": "random masks; tests/checkpoints/dialects/test_hf_masked.py compares with transformers",
    "hf_masked_image": "masked images; tests/checkpoints/dialects/test_hf_masked.py compares with transformers",
    "torch_encoder": "nn.TransformerEncoder's names; tests/wild/test_tutorials.py compares with such a module",
    "early_vit_pytorch": "old names; tests/wild/test_tutorials.py compares with such a module",
    "open_clip_timm": "towers from timm; tests/wild/test_towers_heads_and_adapters.py compares with timm",
    "diffusers_dit": "time and class; tests/checkpoints/dialects/test_diffusers_dit.py compares with diffusers",
    "hf_eomt": "masks of queries; tests/checkpoints/dialects/test_hf_eomt.py compares with transformers",
}


def compare(case: Case) -> Row:
    """Read what the library writes, run both, write it, read that."""
    from vitrail.build import open_checkpoint
    from vitrail.checkpoints import foreign
    from vitrail.checkpoints.description import Description

    try:
        library = f"{case.library} {importlib.metadata.version(case.library)}"
    except importlib.metadata.PackageNotFoundError:
        return Row(case.dialect, case.model, case.library, None, "is not installed")
    theirs = randomised(case.make())
    x = torch.randn(2, 3, case.size, case.size, generator=torch.Generator().manual_seed(1))
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        path = Path(folder) / "theirs"
        case.save(theirs, path)
        checkpoint = open_checkpoint(path)
        assert checkpoint.dialect == case.dialect, (checkpoint.dialect, case.dialect)
        task = checkpoint.load().eval()
        expected, ours = case.theirs(theirs, x), case.ours(task, x)
        foreign.save(
            case.dialect, Path(folder) / "ours", Description.of(task, checkpoint.preprocess), task.state_dict()
        )
        again = case.ours(open_checkpoint(Path(folder) / "ours").load().eval(), x)
    largest = expected.abs().max()
    differences = [((each - expected).abs().max() / largest).item() for each in (ours, again)]
    return Row(case.dialect, case.model, library, max(differences))


def table(dialects: list[str]) -> list[Row]:
    """The rows of these dialects, or of all: also of those that no library here runs as they are."""
    from vitrail import registry
    from vitrail.checkpoints import foreign

    wanted = dialects or registry.names(foreign.DIALECTS)
    chosen = cases()
    rows = [compare(case) for case in chosen if case.dialect in wanted]
    left = [name for name in wanted if not any(case.dialect == name for case in chosen)]
    return [*rows, *(Row(name, "", "", None, OTHERS.get(name, "there is no comparison")) for name in left)]


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dialects", nargs="*", help="default: all")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    rows = table(options.dialects)
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
    else:
        print(f"{'dialect':20} {'model':40} {'library':20} difference")
        for row in rows:
            shown = row.note if row.difference is None else f"{row.difference:.1e}"
            print(f"{row.dialect:20} {row.model:40} {row.library:20} {shown}")
    return int(any(row.difference is not None and row.difference > LIMIT for row in rows))


if __name__ == "__main__":
    sys.exit(main())
