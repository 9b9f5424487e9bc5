"""What the tasks with an answer for each place share: a backbone that attends in windows and is blind to padding.

Shapes: B images, D width, (h, w) token grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch.nn.functional as F
from torch import Tensor

from vitrail.nn.block import Block
from vitrail.nn.windows import WindowConfig, masked_attention, windowed_attention
from vitrail.ops.rope import Rotation
from vitrail.vit import Features, ViT


def encode(
    vit: ViT,
    images: Tensor,
    padding: Tensor | None = None,
    window: WindowConfig | None = None,
    layers: Sequence[int] | None = None,
    patches: Tensor | None = None,
) -> tuple[list[Features], Tensor | None]:
    """Normalised features of images B C H W after the given layers, and which cells of their map are padding: bool
    (B, h, w).

    What an image gives does not hang on its padding, where positions do not hang on the size (all but learned ones on
    another grid) and patches are embedded one by one (no stem of convolutions).

    Args:
        padding: bool (B, H, W), true where a pixel is none of the image's; such pixels are not read.
        window: None: every block attends to all tokens.
        layers: in ascending order; None: the last one.
        patches: embedded patches B N D in place of the images' own; only where ``layers`` is None.
    """
    assert layers is None or patches is None, "patches would be passed over"
    if padding is None and window is None:
        return [vit(images, patches)] if layers is None else vit.intermediates(images, layers, norm=True), None
    if padding is not None:
        images = images.masked_fill(padding.unsqueeze(1), 0)
    x, grid, positions = vit.tokenise(images, patches)
    hidden = padding if padding is None else F.adaptive_max_pool2d((~padding).float(), grid) == 0
    found: list[Features] = []
    cells = hidden if hidden is None else hidden.flatten(1)
    for layer, block in enumerate(cast("list[Block]", vit.blocks)):
        before, rotation = block.before_attention(x), cast("Rotation | None", positions)
        if window is not None and not window.is_global(layer, len(vit.blocks)):
            attended = windowed_attention(block.attention, before, rotation, cells, grid, window.size)
        elif cells is not None:
            attended = masked_attention(block.attention, before, rotation, cells, vit.num_prefix)
        else:
            attended = block.attention(before, positions)
        x = block.feed_forward(block.add_attention(x, attended))
        if layer in (layers or [len(vit.blocks) - 1]):
            found.append(Features(vit.norm(x), grid, vit.config.class_token, vit.num_prefix, vit.config.registers))
    return found, hidden
