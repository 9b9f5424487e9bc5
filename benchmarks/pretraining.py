"""What does a step of masked autoencoding cost, against a full step of its encoder and against transformers' ViTMAE?

    python benchmarks/pretraining.py [--precisions fp32 bf16] [--rounds 7] [--decoder 256x4 | 512x8]

S/16 at 224 px, 75 % of the patches hidden, forward and backward of a batch of 32, in processes that take turns. The
published decoder, 512 wide and 8 deep, costs more than an S/16 itself, so the goals are for a light one of 256 × 4 with
heads of 64. All processes keep freed memory as ``vitrail pretrain`` does.

Goals: ≤ 0.45 × a full forward and backward pass of the encoder, ≥ 1.2 × transformers' throughput.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import torch
from common import backward_step
from matmul import matmul_rate
from turns import Step, take_turns

from vitrail import console
from vitrail.pretrain import mae
from vitrail.train.allocator import keep_freed_memory
from vitrail.vit import ViT
from vitrail.vit_presets import preset

BATCH, HEAD_DIM = 32, 64
MODEL = preset("S/16", positions="sincos_2d")


def build_step(candidate: str, dtype: str, dim: int, depth: int) -> Step:
    """What one candidate repeats."""
    keep_freed_memory()
    torch.manual_seed(0)
    images, keys = torch.randn(BATCH, 3, 224, 224), torch.randint(2**62, (BATCH,))
    module: Any
    if candidate == "encoder alone, all patches":
        module = ViT(MODEL)
        loss = lambda: module(images).tokens.square().mean()  # noqa: E731
    elif candidate == "vitrail":
        sizes = {
            "decoder_dim": dim,
            "decoder_depth": depth,
            "decoder_heads": dim // HEAD_DIM,
            "decoder_mlp_dim": 4 * dim,
        }
        module = mae.Task(mae.Config(model=MODEL, **sizes))
        loss = lambda: module.loss({"images": images, "keys": keys})["loss"]  # noqa: E731
    else:
        from transformers import ViTMAEConfig, ViTMAEForPreTraining

        module = ViTMAEForPreTraining(
            ViTMAEConfig(
                hidden_size=MODEL.dim,
                num_hidden_layers=MODEL.depth,
                num_attention_heads=MODEL.heads,
                intermediate_size=MODEL.mlp_dim,
                decoder_hidden_size=dim,
                decoder_num_hidden_layers=depth,
                decoder_num_attention_heads=dim // HEAD_DIM,
                decoder_intermediate_size=4 * dim,
                norm_pix_loss=True,
                attn_implementation="sdpa",
            )
        )
        loss = lambda: module(images).loss  # noqa: E731
    return backward_step(module, loss, dtype)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precisions", nargs="+", choices=("fp32", "bf16"), default=["fp32", "bf16"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--decoder", default="256x4", metavar="DIMxDEPTH")
    options = parser.parse_args()
    dim, depth = map(int, options.decoder.split("x"))
    for dtype in options.precisions:
        names = ("encoder alone, all patches", "vitrail", "transformers")
        seconds, memory = take_turns({name: (build_step, (name, dtype, dim, depth)) for name in names}, options.rounds)
        medians = {name: statistics.median(taken) for name, taken in seconds.items()}
        rate = matmul_rate(dtype) / 1e9
        print(f"MAE, S/16 at 224 px, decoder {options.decoder}, {dtype}, batch {BATCH}; matmul {rate:.0f} GFLOP/s")
        rows = [
            (name, f"{median * 1e3:.0f}", f"{BATCH / median:.1f}", f"{memory[name]:.1f}")
            for name, median in medians.items()
        ]
        print(console.table(("", "ms", "images/s", "peak GB"), rows))
        encoder, ours, theirs = medians.values()
        print(
            f"→ {ours / encoder:.2f} × the encoder's step, {theirs / ours:.2f} × transformers' throughput\n", flush=True
        )


if __name__ == "__main__":
    main()
