"""How fast does a ViT train? Forward, backward and AdamW step of Vitrail, timm and transformers.

    python benchmarks/training.py [--models S/16 Ti/4 192x9/4] [--precisions fp32 bf16] [--rounds 7] [--inference]

Each candidate lives in a process of its own with the same batch, the same fused AdamW and the same bfloat16 autocast,
and they take turns; the median step counts. The peers run in their best ordinary settings (fused attention). Vitrail
does what ``vitrail train`` does on a CPU, which includes ``keep_freed_memory`` (vitrail/train/allocator.py); as that
is a setting of the process and would help any library, the peers run a second time with it ("+ kept memory").
"matmul" is the share of the rate that a square matrix product measures in the same precision on this machine.

Targets: ≥ 1.2 × the better peer for S/16 at 224 px, ≥ 1.4 × for the 32-px models in bf16.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from common import timm_vit
from matmul import matmul_rate
from torch import Tensor, nn
from turns import Step, take_turns

from vitrail import console
from vitrail.tasks import classification
from vitrail.train import optimizer, precision
from vitrail.train.allocator import keep_freed_memory
from vitrail.trainable import Trainable
from vitrail.vit import ViTConfig

CANDIDATES = ("vitrail", "timm", "transformers", "timm + kept memory", "transformers + kept memory")


@dataclass(frozen=True)
class Model:
    """A plain ViT: class token, learned positions, linear head."""

    image_size: int
    patch_size: int
    dim: int
    depth: int
    heads: int
    mlp_dim: int
    num_classes: int
    batch_size: int

    @property
    def step_flops(self) -> int:
        """Matrix products of a step on the batch: 2 a multiply–accumulate, backward twice forward."""
        num_patches = (self.image_size // self.patch_size) ** 2
        tokens, dim = num_patches + 1, self.dim
        block = tokens * (4 * dim * dim + 2 * dim * self.mlp_dim) + 2 * tokens * tokens * dim
        macs = self.depth * block + num_patches * 3 * self.patch_size**2 * dim + dim * self.num_classes
        return 3 * 2 * macs * self.batch_size


MODELS = {
    "S/16": Model(224, 16, 384, 12, 6, 1536, num_classes=1000, batch_size=32),
    "Ti/4": Model(32, 4, 192, 12, 3, 768, num_classes=10, batch_size=128),  # heads of 64, as in Ti/16
    "192x9/4": Model(32, 4, 192, 9, 12, 384, num_classes=10, batch_size=128),  # heads of 16: Lee et al. 2021, CIFAR
}


def build_vitrail(model: Model) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    config = ViTConfig(
        image_size=(model.image_size, model.image_size),
        patch_size=(model.patch_size, model.patch_size),
        dim=model.dim,
        depth=model.depth,
        heads=model.heads,
        mlp_dim=model.mlp_dim,
    )
    classes = tuple(f"class{i}" for i in range(model.num_classes))
    task = classification.Task(classification.Config(model=config, classes=classes))
    return task, task


def build_timm(model: Model) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    sizes = (model.image_size, model.patch_size, model.dim, model.depth, model.heads, model.mlp_dim)
    vit = timm_vit(*sizes, model.num_classes)
    return vit, vit


def build_transformers(model: Model) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    from transformers import ViTConfig as TheirConfig
    from transformers import ViTForImageClassification

    config = TheirConfig(
        image_size=model.image_size,
        patch_size=model.patch_size,
        hidden_size=model.dim,
        num_hidden_layers=model.depth,
        num_attention_heads=model.heads,
        intermediate_size=model.mlp_dim,
        num_labels=model.num_classes,
        attn_implementation="sdpa",
    )
    vit = ViTForImageClassification(config)
    return vit, lambda images: vit(images).logits


BUILDERS = {"vitrail": build_vitrail, "timm": build_timm, "transformers": build_transformers}


def build_step(candidate: str, model: Model, dtype: str, inference: bool) -> Step:
    """What one candidate repeats."""
    library, _, kept_memory = candidate.partition(" + ")
    if kept_memory or (library == "vitrail" and not inference):
        keep_freed_memory()
    torch.manual_seed(0)
    module, forward = BUILDERS[library](model)
    rule = torch.optim.AdamW(module.parameters(), lr=1e-4, weight_decay=0.05, fused=True)
    if library == "vitrail":
        assert isinstance(module, Trainable)
        rule = optimizer.build(module, optimizer.OptimizerConfig(lr=1e-4), batch_size=model.batch_size)
    images = torch.randn(model.batch_size, 3, model.image_size, model.image_size)
    targets = torch.randint(model.num_classes, (model.batch_size,))
    module.train(not inference)

    def step() -> None:
        with precision.autocast(dtype, torch.device("cpu")), torch.set_grad_enabled(not inference):
            loss = F.cross_entropy(forward(images), targets)
        if not inference:
            loss.backward()
            rule.step()
            rule.zero_grad()

    return step


def report(name: str, dtype: str, rounds: int, inference: bool) -> None:
    model = MODELS[name]
    rate = matmul_rate(dtype)
    names = CANDIDATES[:3] if inference else CANDIDATES
    seconds, memory = take_turns({name: (build_step, (name, model, dtype, inference)) for name in names}, rounds)
    medians = {candidate: statistics.median(taken) for candidate, taken in seconds.items()}
    flops = model.step_flops / (3 if inference else 1)
    what = "inference" if inference else "training"
    print(
        f"{what}, {name} at {model.image_size} px, {dtype}, batch {model.batch_size}; matmul {rate / 1e9:.0f} GFLOP/s"
    )
    rows: list[list[Any]] = [
        [
            candidate,
            f"{median * 1e3:.0f}",
            f"{min(seconds[candidate]) * 1e3:.0f}–{max(seconds[candidate]) * 1e3:.0f}",
            f"{model.batch_size / median:.1f}",
            f"{flops / median / rate:.0%}",
            f"{memory[candidate]:.1f}",
            f"{median / medians['vitrail']:.2f} ×",
        ]
        for candidate, median in medians.items()
    ]
    print(console.table(["", "ms", "range", "images/s", "matmul", "peak GB", "vitrail is"], rows))
    better = min(medians["timm"], medians["transformers"]) / medians["vitrail"]
    line = f"{better:.2f} × the better peer"
    if not inference:
        kept = min(taken for candidate, taken in medians.items() if "kept" in candidate) / medians["vitrail"]
        line += f", {kept:.2f} × the better peer with kept memory"
    print(f"→ {line}\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--precisions", nargs="+", choices=("fp32", "bf16"), default=["fp32", "bf16"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--inference", action="store_true", help="the forward pass alone, without gradients")
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for name in options.models:
        for dtype in options.precisions:
            report(name, dtype, options.rounds, options.inference)


if __name__ == "__main__":
    main()
