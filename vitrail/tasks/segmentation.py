"""Semantic segmentation: a class for every pixel.

Shapes: B images, K classes, D width, (h, w) token grid.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vitrail.config import config
from vitrail.data.batch import Batch, tensor_targets
from vitrail.data.transforms.geometry import ImageGeometry
from vitrail.errors import UserError
from vitrail.metrics.segmentation import Metrics
from vitrail.nn.dense_heads import CascadedUpsampler, LinearHead, MultiLevelHead, enlarged
from vitrail.nn.detail_stream import DetailStream
from vitrail.nn.init import initialise
from vitrail.nn.resnet_stem import ResNetStem
from vitrail.nn.windows import WindowConfig
from vitrail.ops.grid import Pair
from vitrail.ops.losses import log_mean_softmax
from vitrail.ops.segmentation_losses import cell_cross_entropy, cross_entropy_and_dice, num_labelled
from vitrail.predictions.semantic import Prediction
from vitrail.tasks import Task as Base
from vitrail.trainable import Losses
from vitrail.vit import ViT, ViTConfig

if TYPE_CHECKING:
    from vitrail.data.transforms.tiles import TileOutputs
    from vitrail.ops.tiles import TileGrid

__all__ = ["Config", "Prediction", "Task"]

LEVELS = 4  # layers that the multi-level head reads, spread evenly
NARROWING = (2.0, 1.0, 0.5, 0.125)  # of TransUNet's decoder, step by step: 256, 128, 64 and 16 channels


@config
class Config:
    """Args:
    classes: names in the order of the outputs.
    decoder: ``linear`` (Segmenter), ``multilevel`` (SETR-MLA), ``transunet``, which needs a ResNet stem, or ``detail``
        (ViTMatte), which reads the pixels in addition to the tokens.
    hidden: width of the multi-level head, or of the decoders that upsample step by step at their second step.
    dice: share of the Dice loss of each image; the rest is cross-entropy.
    window: blocks that attend in windows, for large images; None: all attend to all.
    subpixel: side of the squares of pixels that the decoder ``detail`` reads and tells at once, as channels, so that
        its maps are so many times smaller (Shi et al. 2016, ESPCN); at most half a patch.
    coarse: weight of the cross-entropy of a linear head on the tokens, to whose logits the decoder's are added, so that
        it has only to refine them (Ghiasi & Fowlkes 2016, LRR); 0: there is none.
    """

    model: ViTConfig
    classes: Annotated[tuple[str, ...], Field(min_length=1, max_length=255)]
    decoder: Literal["linear", "multilevel", "transunet", "detail"] = "linear"
    hidden: Annotated[int, Field(gt=0, le=8192)] = 128
    dice: Annotated[float, Field(ge=0, le=1)] = 0.5
    window: WindowConfig | None = None
    subpixel: Literal[1, 2, 4, 8] = 1
    coarse: Annotated[float, Field(ge=0)] = 0.0


class Task(Base[Prediction]):
    """Targets: int64 (B, H, W), 255 where unknown. Outputs: logits B K H W at the size of the images.

    ``batch["padding"]`` bool (B, H, W), where there is one, marks the pixels that are padding.
    """

    monitor: ClassVar[str] = "miou"
    takes: ClassVar[tuple[str, ...]] = ("semantic",)
    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        if config.subpixel > 1 and config.decoder != "detail":
            raise UserError(f"subpixel={config.subpixel} is for decoder='detail', not {config.decoder!r}; leave it out")
        model, num_classes = config.model, len(config.classes)
        self.vit = ViT(model)
        self.layers = [model.depth - 1]
        self.head: LinearHead | MultiLevelHead | CascadedUpsampler
        self.stream: DetailStream | None = None
        if config.decoder == "transunet":
            skips = _stem_of(self.vit).channels[-2::-1]
            self.head = CascadedUpsampler(model.dim, skips, _widths(self.vit, config.hidden), num_classes)
        elif config.decoder == "detail":
            widths, area = _widths(self.vit, config.hidden, config.subpixel), config.subpixel**2
            self.stream = DetailStream(model.channels * area, widths[::-1])
            self.head = CascadedUpsampler(model.dim, widths, widths, num_classes * area)
            initialise(self.stream)
        elif config.decoder == "multilevel":
            count = min(LEVELS, model.depth)
            self.layers = [(level + 1) * model.depth // count - 1 for level in range(count)]
            self.head = MultiLevelHead(model.dim, count, config.hidden, num_classes)
        else:
            self.head = LinearHead(model.dim, num_classes)
        initialise(self.head)
        self.coarse = nn.Conv2d(model.dim, num_classes, 1) if config.coarse else None
        if self.coarse is not None:
            initialise(self.coarse)

    @property
    def names(self) -> tuple[str, ...]:
        """The classes."""
        return self.config.classes

    def embed(self, images: Tensor) -> Tensor:
        """B C H W → the mean of the patches, B D."""
        (features,), _ = self.vit.dense(images, None, self.config.window)
        return features.patches.mean(dim=1)

    def forward(self, images: Tensor, padding: Tensor | None = None) -> Tensor:
        """B C H W → logits B K H W."""
        return self.forward_with_embedding(images, padding)[0]

    def forward_with_embedding(self, images: Tensor, padding: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What :meth:`forward` and :meth:`embed` give, in one pass."""
        logits, _, map_ = self._run(images, padding)
        return logits, map_.flatten(2).mean(dim=2)

    def loss(self, batch: Batch) -> Losses:
        """Cross-entropy and Dice, weighted by the config, and optionally the cross-entropy of the tokens."""
        logits, coarse, _ = self._run(batch["images"], batch.get("padding"))
        labels, share = tensor_targets(batch), self.config.dice
        num_pixels = self.divisors(batch)["pixels"]
        cross_entropy, dice = cross_entropy_and_dice(logits, labels, num_pixels)
        parts = {"cross_entropy": cross_entropy, "dice": dice}
        loss = (1 - share) * cross_entropy + share * dice
        if coarse is not None:
            parts["coarse"] = cell_cross_entropy(coarse, labels, num_pixels)
            loss = loss + self.config.coarse * parts["coarse"]
        return {"loss": loss, **parts}

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """The labelled pixels."""
        return {"pixels": num_labelled(tensor_targets(batch))}

    def decode(self, outputs: Tensor, geometries: Sequence[ImageGeometry]) -> list[Prediction]:
        """The likeliest class of each pixel of the image."""
        maps = self.metrics().reduce(outputs.detach().float(), geometries)
        return [Prediction(self.config.classes, map_.numpy()) for map_ in maps]

    def decode_tiles(self, found: Iterable[TileOutputs], grid: TileGrid) -> Prediction:
        """The likeliest class of each pixel by the blended logits of the tiles that show it."""
        return Prediction(self.config.classes, self.metrics().reduce_tiles(found, grid).numpy())

    def reduce_tiles(self, found: Iterable[TileOutputs], grid: TileGrid) -> object:
        """The same as a map uint8 (H, W)."""
        return self.metrics().reduce_tiles(found, grid)

    def class_scores(self, outputs: Tensor) -> Tensor:
        """The sum of each class's logits where it is predicted (Vinogradova et al. 2020, Seg-Grad-CAM)."""
        classes = torch.arange(outputs.shape[1], device=outputs.device)[:, None, None]
        return (outputs * (outputs.argmax(dim=1, keepdim=True) == classes)).sum(dim=(2, 3))

    def average_views(self, outputs: Sequence[Tensor], mirrored: Sequence[bool], size: Pair) -> Tensor:
        """The mean probabilities of each pixel, as logits."""
        return log_mean_softmax(
            [each.flip(-1) if turned else each for each, turned in zip(outputs, mirrored, strict=True)]
        )

    def as_targets(self, predictions: Sequence[Prediction]) -> list[Tensor]:
        """The maps."""
        return [torch.from_numpy(each.map) for each in predictions]

    def metrics(self) -> Metrics:
        """Mean IoU, Dice, accuracy, boundary F1."""
        return Metrics(self.config.classes)

    def _run(self, images: Tensor, padding: Tensor | None) -> tuple[Tensor, Tensor | None, Tensor]:
        """Logits B K H W, those of the tokens alone B K h w, and the map of the tokens B D h w."""
        size = (images.shape[-2], images.shape[-1])
        if isinstance(self.head, CascadedUpsampler):
            logits, map_ = self._upsampled(self.head, images, padding)
        else:
            found, hidden = self.vit.dense(images, padding, self.config.window, self.layers)
            logits, map_ = self.head([features.map for features in found], hidden, size), found[-1].map
        if self.coarse is None:
            return logits, None, map_
        coarse = self.coarse(map_)
        return logits + enlarged(coarse, size), coarse, map_

    def _upsampled(self, head: CascadedUpsampler, images: Tensor, padding: Tensor | None) -> tuple[Tensor, Tensor]:
        if padding is not None:
            images = images.masked_fill(padding.unsqueeze(1), 0)  # convolutions read the pixels too
        if self.stream is not None:
            maps, patches = self.stream.maps(F.pixel_unshuffle(images, self.config.subpixel)), None
        else:
            stem = _stem_of(self.vit)
            *maps, last = stem.maps(images)
            patches = stem.project(last)
        (features,), _ = self.vit.dense(images, padding, self.config.window, patches=patches)
        logits = head(features.map, maps[::-1])
        return F.pixel_shuffle(logits, self.config.subpixel), features.map


def _widths(vit: ViT, hidden: int, subpixel: int = 1) -> list[int]:
    """Channels after each doubling of the tokens' grid, up to squares of ``subpixel``² pixels.

    Raises:
        UserError: patches whose sides are no power of two, or no multiple of two such squares.
    """
    height, width = vit.config.patch_size
    num_steps = (height // subpixel).bit_length() - 1
    if height != width or height != subpixel * 2**num_steps or num_steps < 1:
        squares = f" by squares of {subpixel} pixels" if subpixel > 1 else ""
        raise UserError(
            f"this decoder doubles the grid up to the pixels{squares}; choose patch_size=16, not {height}×{width}"
        )
    shares = [NARROWING[min(step, len(NARROWING) - 1)] for step in range(num_steps)]
    return [max(8, round(hidden * share)) for share in shares]


def _stem_of(vit: ViT) -> ResNetStem:
    """The stem that TransUNet reads.

    Raises:
        UserError: the tokens do not come from a ResNet whose last stage has their resolution.
    """
    stem, patch = vit.embed, vit.config.patch_size
    if not isinstance(stem, ResNetStem) or patch[0] != patch[1] or patch[0] != stem.stride:
        raise UserError(
            "decoder='transunet' needs a ResNet stem that shrinks as much as a patch covers, such as "
            "embed.kind='resnet', embed.layers=[3,4,9] with patch_size=16; or choose decoder='detail'"
        )
    return stem
