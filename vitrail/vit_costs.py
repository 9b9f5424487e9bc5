"""What a model costs: parameters, multiply–accumulates and tokens. Those of the published models are listed, so that
importing this and reading the list need no torch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vitrail.vit_presets import HYBRIDS, SIZES

if TYPE_CHECKING:
    from vitrail.vit_config import ViTConfig


@dataclass(frozen=True)
class Count:
    """The cost of a model on one image of its native size."""

    parameters: int
    macs: int
    """Multiply–accumulates of all matrix products and convolutions."""
    tokens: int


PUBLISHED: dict[str, Count] = {
    "Ti/16": Count(5_717_416, 1_253_683_200, 197),
    "S/16": Count(22_050_664, 4_598_882_304, 197),
    "S/32": Count(22_878_952, 1_142_909_952, 50),
    "B/8": Count(86_576_872, 78_148_337_664, 785),
    "B/16": Count(86_567_656, 17_563_828_224, 197),
    "B/32": Count(88_224_232, 4_409_186_304, 50),
    "L/14": Count(304_203_752, 81_013_006_336, 257),
    "L/16": Count(304_326_632, 61_554_712_576, 197),
    "L/32": Count(306_535_400, 15_377_539_072, 50),
    "H/14": Count(632_045_800, 167_295_109_120, 257),
    "H/16": Count(632_199_400, 127_314_872_320, 197),
    "So400m/14": Count(413_595_352, 109_485_462_528, 256),
    "So400m/16": Count(413_733_592, 83_134_153_728, 196),
    "g/14": Count(1_012_611_432, 267_031_491_584, 257),
    "G/14": Count(1_844_440_680, 483_747_550_208, 257),
    "R+Ti/16": Count(6_337_704, 433_681_920, 50),
    "R26+S/32": Count(36_431_912, 3_463_851_008, 50),
    "R50+B/16": Count(98_659_112, 21_535_358_976, 197),
    "R50+L/32": Count(328_994_856, 19_413_295_104, 50),
}
"""Of each preset on an image of :data:`IMAGE_SIZE` with a head of 1,000 classes, as :func:`count` counts them."""
IMAGE_SIZE = (224, 224)


def shape(name: str) -> tuple[int, int, int, int]:
    """dim, depth, heads and mlp_dim of a published model."""
    dim, depth, heads, mlp_dim, _ = SIZES[HYBRIDS[name][0] if name in HYBRIDS else name.partition("/")[0]]
    return dim, depth, heads, mlp_dim


def count(config: ViTConfig, num_classes: int = 1000) -> Count:
    """Parameters, MACs and tokens of a ViT with a linear head, counted on a model without memory (meta device).

    All blocks cost the same, so models of one and two blocks determine the rest.
    """
    one, two = (_count(dataclasses.replace(config, depth=depth), num_classes) for depth in (1, 2))
    more = config.depth - 1
    return Count(
        one.parameters + more * (two.parameters - one.parameters), one.macs + more * (two.macs - one.macs), one.tokens
    )


def _count(config: ViTConfig, num_classes: int) -> Count:
    import torch
    from torch import nn
    from torch.utils.flop_counter import FlopCounterMode

    from vitrail.vit import ViT

    with torch.device("meta"):
        vit = ViT(config).eval().to("meta")  # fixed positions are made on the CPU
        head = nn.Linear(config.dim, num_classes)
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            tokens = vit(torch.empty(1, config.channels, *config.image_size)).tokens
            head(tokens[:, 0])
    parameters = sum(p.numel() for module in (vit, head) for p in module.parameters())
    return Count(parameters, counter.get_total_flops() // 2, tokens.shape[1])
