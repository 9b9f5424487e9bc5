"""What the tasks that give one vector an image share: backbone → pool → head."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from vitrail.config import config
from vitrail.errors import UserError
from vitrail.nn.head import Head, HeadConfig
from vitrail.nn.init import initialise
from vitrail.nn.mlp import MlpKind
from vitrail.nn.pooling import PoolKind, build_pool, pooled_dim
from vitrail.tasks import Task
from vitrail.vit import ViT, ViTConfig


@config
class PooledConfig:
    """A backbone, how its tokens become one vector, and the head.

    Args:
        pool: default: the class token where the model has one, else the mean of the patches.
    """

    model: ViTConfig
    pool: PoolKind | None = None
    head: HeadConfig = HeadConfig()


class PooledTask(Task):
    """backbone → pool → head, with ``num_outputs`` numbers an image."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        model: ViTConfig = config.model
        kind: PoolKind = config.pool or ("cls" if model.class_token else "mean")
        if kind.startswith("cls") and not model.class_token:
            raise UserError(f"pool={kind!r} needs a model with class_token=true; choose pool='mean'")
        distilled = kind == "cls_distillation"
        if distilled != config.head.distilled or (distilled and not model.distillation_token):
            raise UserError("pool='cls_distillation', head.distilled and model.distillation_token go together; set all")
        mlp: MlpKind = "gelu" if model.block.mlp == "swiglu" else model.block.mlp
        self.vit = ViT(model)
        self.pool = build_pool(kind, model.dim, model.heads, model.mlp_dim, mlp, model.block.norm_eps)
        self.head = Head(pooled_dim(kind, model.dim), self.num_outputs, config.head, model.block.norm_eps)
        initialise(self.pool)
        initialise(self.head)

    @property
    @abstractmethod
    def num_outputs(self) -> int:
        """K, the width of the head's output."""

    def embed(self, images: Tensor) -> Tensor:
        """B C H W → the pooled vector before the head, B D."""
        features = self.vit(images)
        return self.pool(features.prefix, features.patches)

    def forward_head(self, vectors: Tensor) -> Tensor:
        """What :meth:`embed` gives, B D → raw outputs, B K."""
        return self.head(vectors)

    def forward_with_embedding(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Raw outputs and the pooled vector, in one pass."""
        vectors = self.embed(images)
        return self.forward_head(vectors), vectors

    def forward(self, images: Tensor) -> Tensor:
        """B C H W → B K."""
        return self.forward_head(self.embed(images))


def draw_caption(image: Image.Image, lines: list[str]) -> Image.Image:
    """A copy of the image with a band of text below it."""
    image = image.convert("RGB")
    width = max(image.width, 224)
    if image.width < width:
        image = image.resize((width, round(image.height * width / image.width)), Image.Resampling.NEAREST)
    size = max(width // 22, 12)
    font = ImageFont.load_default(size)
    step = round(size * 1.35)
    canvas = Image.new("RGB", (image.width, image.height + step * len(lines) + size // 2), (24, 24, 27))
    canvas.paste(image, (0, 0))
    pen = ImageDraw.Draw(canvas)
    for row, line in enumerate(lines):
        colour = (255, 255, 255) if row == 0 else (178, 178, 186)
        pen.text((size // 2, image.height + size // 5 + step * row), line, fill=colour, font=font)
    return canvas
