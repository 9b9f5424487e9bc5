"""Super-resolution and restoration: a larger, sharper or cleaner picture.

A plain ViT on patches of a few pixels, with attention in windows, convolutions between groups of blocks, and a head
whose channels become pixels; the bicubic picture is added to what it makes (Liang et al. 2021, SwinIR). With scale 1
the same model removes noise and traces of JPEG.

Shapes: B images, C channels, s the scale, D width, (h, w) token grid.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from vitrail import defaults
from vitrail.config import config, from_dict, to_dict
from vitrail.data.batch import Batch, tensor_targets
from vitrail.data.media.originals import to_8_bits
from vitrail.data.transforms.geometry import ImageGeometry
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.defaults import Choice, Facts
from vitrail.errors import UserError
from vitrail.metrics import Rows
from vitrail.metrics.restoration import Metrics
from vitrail.nn.init import initialise
from vitrail.nn.restoration import GroupConvolution, Groups, PixelHead, on_grid
from vitrail.nn.upsampling import NearestHead, ShuffleHead, UpsamplerConfig
from vitrail.nn.windows import WindowConfig, Windows
from vitrail.ops.bicubic import enlarged, imresize
from vitrail.ops.grid import Pair
from vitrail.ops.restoration_losses import fourier_loss, pixel_loss
from vitrail.ops.tiles import EnlargedGrid, TileConfig, blended
from vitrail.predictions.restored import Prediction, levels_of
from vitrail.tasks import Task as Base
from vitrail.trainable import Forward, Losses, ModelConfig
from vitrail.vit import ViT, ViTConfig

if TYPE_CHECKING:
    from vitrail.data.transforms.tiles import TileOutputs
    from vitrail.ops.tiles import TileGrid

__all__ = ["Config", "Prediction", "Task", "exact_tiles", "light"]

NUM_STEPS = 6000
PARTS = 1600  # of pictures in an epoch, about
TILE = 384  # pixels of a side
EDGE = 2  # pixels that the convolutions of the head and the bicubic enlargement see beyond the tokens

LIGHT: dict[str, Any] = {
    "image_size": 32,
    "patch_size": 3,
    "embed": {"kind": "patch", "stride": 1, "centre": True},
    "dim": 32,
    "depth": 2,
    "heads": 1,
    "mlp_dim": 64,
    "block": {"mlp": "relu"},
    "positions": "none",  # the convolutions tell tokens apart by their neighbours
    "class_token": False,
}


@config
class Config:
    """Args:
    scale: how many times larger a picture becomes; 1: it is only cleaned.
    window: blocks that attend in windows; None: all attend to all, which takes much memory.
    skip: what is added to what the head makes: the bicubic picture, or the mean of the pixels alone (SwinIR's light
        models).
    group: blocks between two convolutions over the grid; 0: there are none.
    mean: of each channel, or of all, which is taken off the pixels (0 to 1) first.
    pixel_range: by what they are multiplied then, and the result divided (255 in SwinIR's models for JPEG).
    upsampler: how features become pixels.
    convolutions: after each group of blocks, and after all: 1, or 3 of fewer channels between.
    entry: a linear layer before the first block (Conde et al. 2022, Swin2SR).
    loss: of pixels.
    fourier: weight of the difference of the spectra, which is added to it.
    """

    model: ViTConfig
    scale: Literal[1, 2, 3, 4] = 1
    window: WindowConfig | None = WindowConfig(size=8, num_global=0)
    group: Annotated[int, Field(ge=0, le=256)] = 1
    skip: Literal["bicubic", "mean"] = "bicubic"
    mean: tuple[Annotated[float, Field(ge=0, le=1)], ...] = (0.5,)
    pixel_range: Annotated[float, Field(gt=0, le=65535)] = 1.0
    upsampler: UpsamplerConfig = UpsamplerConfig()
    convolutions: Literal[1, 3] = 1
    entry: bool = False
    loss: Literal["l1", "charbonnier", "mse"] = "charbonnier"
    fourier: Annotated[float, Field(ge=0)] = 0.0

    @property
    def ends(self) -> tuple[int, ...]:
        """The blocks that a convolution follows."""
        depth = self.model.depth
        return tuple(
            layer for layer in range(depth) if self.group and ((layer + 1) % self.group == 0 or layer + 1 == depth)
        )

    @property
    def reach(self) -> int | None:
        """Pixels beyond one of the picture that its result depends on at most; None: on all of them."""
        model, window = self.model, self.window
        if window is None or window.num_global:
            return None
        ends, low, high = self.ends, 0, 0
        for place in range(window.size):
            first = last = place
            for layer in range(model.depth):
                shift = window.shift(layer)
                first = (first + shift) // window.size * window.size - shift
                last = (last + shift) // window.size * window.size - shift + window.size - 1
                if layer in ends:
                    around = 1 if self.convolutions == 1 else 2
                    first, last = first - around, last + around
            low, high = max(low, place - first), max(high, last - place)
        edge = max(EDGE, self.upsampler.reach(self.convolutions))
        return (max(low, high) + edge) * stride_of(model) + model.patch_size[0]


def stride_of(model: ViTConfig) -> int:
    """Pixels from one token to the next.

    Raises:
        UserError: they differ down and across.
    """
    down, across = model.patch_embed.stride or model.patch_size
    if down != across:
        raise UserError(f"pictures are restored from square patches, not {down}×{across}; set model.patch_size")
    return down


class Task(Base[Prediction]):
    """Targets: pictures uint8 (B, C, s·H, s·W). Images and outputs: values from 0 to 1, outputs (B, C, s·H, s·W)."""

    monitor: ClassVar[str] = "psnr_y"
    share: ClassVar[str | None] = "ssim_y"
    takes: ClassVar[tuple[str, ...]] = ("image",)
    shaping: ClassVar[tuple[str, ...]] = (
        "scale", "window", "group", "skip", "mean", "pixel_range", "upsampler", "convolutions", "entry",
    )  # fmt: skip
    keeps_form: ClassVar[bool] = True
    quarter_turns: ClassVar[bool] = True
    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        model = config.model
        if len(config.mean) not in (1, model.channels):
            raise UserError(f"task_options.mean has {len(config.mean)} values for {model.channels} channels; give one")
        self.vit = ViT(model)
        self.entry = nn.Linear(model.dim, model.dim) if config.entry else nn.Identity()
        self.groups = nn.ModuleDict(
            {str(layer): GroupConvolution(model.dim, config.convolutions) for layer in config.ends}
        )
        self.head = pixel_head(config)
        for part in (self.entry, self.groups, self.head):
            initialise(part)

    @classmethod
    def configure(
        cls, model: ViTConfig, names: Sequence[str], targets: object, options: Mapping[str, object]
    ) -> ModelConfig:
        """Nothing depends on the data."""
        return from_dict(Config, {**options, "model": to_dict(model)})

    @classmethod
    def derived_options(cls, preprocess: PreprocessConfig) -> dict[str, Any]:
        """The scale of ``preprocess.degrade``.

        Raises:
            UserError: pixels are not given as values from 0 to 1.
        """
        if set(preprocess.mean) != {0.0} or set(preprocess.std) != {1.0}:
            raise UserError(
                "pictures are restored from values between 0 and 1: set data.preprocess.mean=0 and "
                "data.preprocess.std=1"
            )
        return {"scale": 1 if preprocess.degrade is None else preprocess.degrade.scale}

    @classmethod
    def defaults(cls, facts: Facts) -> list[Choice]:
        """A light model on parts of 32 pixels, seen by tiles."""
        model = facts.model if facts.pretrained else light(facts.model.channels)
        passes = math.ceil(PARTS / max(facts.num_images, 1))
        facts = dataclasses.replace(facts, num_images=passes * facts.num_images)
        how_long = defaults.length(facts, 16, NUM_STEPS, fewest=4, parts=1)
        steps = how_long.epochs * how_long.an_epoch
        own = {**LIGHT, "channels": model.channels}
        chosen = [] if facts.pretrained else [Choice("model", own, "light: 0.2 million parameters")]
        return [
            *chosen,
            Choice("data.loader.passes", passes, f"about {PARTS:,} parts of pictures in an epoch"),
            *how_long.choices(facts),
            Choice("evaluate_every", max(1, how_long.epochs // defaults.EVALUATIONS), "epochs"),
            Choice("data.preprocess.mean", [0], "values from 0 to 1"),
            Choice("data.preprocess.std", [1], "values from 0 to 1"),
            Choice("data.preprocess.tiles", to_dict(exact_tiles(Config(model=model))), "overlapping as far as it sees"),
            Choice("data.preprocess.resize", "none", "pictures keep their size"),
            Choice("data.preprocess.degrade.scale", 2, "twice as large"),
            Choice("optimizer.lr", 1e-3, "from scratch"),
            Choice("optimizer.weight_decay", 0.0, "small models on many patches do not overfit"),
            Choice("ema", {"decay": round(min(max(1 - 20 / steps, 0.9), 0.999), 4)}, "weights are steadier"),
        ]

    @classmethod
    def too_few(cls, facts: Facts, data: str) -> str | None:
        """Nothing: each pixel teaches."""
        return None

    @property
    def graph_step(self) -> int:
        """Whole windows."""
        return self.config.window.size if self.config.window is not None else 1

    @property
    def names(self) -> tuple[str, ...]:
        """What explanations are of."""
        return ("detail",)

    def embed(self, images: Tensor) -> Tensor:
        """B C H W → the mean of the tokens, B D."""
        return self._features(images)[0].mean(dim=(2, 3))

    def forward(self, images: Tensor, padding: Tensor | None = None) -> Tensor:
        """B C H W → B C s·H s·W. A border is restored like the rest, and cut off afterwards."""
        return self.forward_with_embedding(images, padding)[0]

    def forward_with_embedding(self, images: Tensor, padding: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What :meth:`forward` and :meth:`embed` give, in one pass."""
        features, shallow = self._features(images)
        skip = self._mean(images) if self.config.skip == "mean" else enlarged(images, self.config.scale)
        return skip + self.head(features, shallow) / self.config.pixel_range, features.mean(dim=(2, 3))

    def loss(self, batch: Batch) -> Losses:
        """Of the pixels, and of the spectra where that has a weight."""
        pictures, truth = self(batch["images"]), tensor_targets(batch) / 255
        pixels = pixel_loss(self.config.loss, pictures.float(), truth)
        if not self.config.fourier:
            return {"loss": pixels}
        spectra = fourier_loss(pictures.float(), truth)
        return {"loss": pixels + self.config.fourier * spectra, "pixels": pixels, "fourier": spectra}

    def decode(self, outputs: Tensor, geometries: Sequence[ImageGeometry]) -> list[Prediction]:
        """The outputs, in as many pixels as the scale makes of the image's."""
        found = zip(outputs.detach().float(), geometries, strict=True)
        return [Prediction(levels_of(self._in_image(values, each)), self.config.scale) for values, each in found]

    def decode_tiles(self, found: Iterable[TileOutputs], grid: TileGrid) -> Prediction:
        """The outputs of the tiles, put together."""
        size = EnlargedGrid(grid, self.config.scale).size
        levels = np.empty((*size, self.config.model.channels), np.uint16)
        done = 0
        for band in self._bands(found, grid):
            levels[done : done + band.shape[1]] = levels_of(band)
            done += band.shape[1]
        return Prediction(levels, self.config.scale)

    def reduce_tiles(self, found: Iterable[TileOutputs], grid: TileGrid) -> Tensor:
        """The picture, uint8 (C, H, W)."""
        return torch.cat([in_8_bits(band) for band in self._bands(found, grid)], dim=1)

    def evaluate_batch(self, batch: Batch, forward: Forward | None = None) -> Rows:
        """The restored and the bicubic picture of each, uint8 (2, C, s·H, s·W)."""
        run, scale = forward or self, self.config.scale
        if "tiled" in batch:
            rows = []
            for each in batch["tiled"]:
                assert isinstance(each.pixels, Tensor), "evaluation decodes pictures as a whole"
                restored = self.reduce_tiles(each.outputs(run), each.grid)
                rows.append(torch.stack((restored, imresize(each.pixels, scale))))
            return rows
        restored = in_8_bits(run(batch["images"]).float()).cpu()
        return list(torch.stack((restored, imresize(in_8_bits(batch["images"].cpu()), scale)), dim=1))

    def class_scores(self, outputs: Tensor) -> Tensor:
        """How much detail there is, B 1: the mean difference of neighbouring pixels (Gu & Dong 2021, LAM, eq. 2)."""
        down, across = outputs.diff(dim=-2).abs(), outputs.diff(dim=-1).abs()
        return (down.mean(dim=(1, 2, 3)) + across.mean(dim=(1, 2, 3)))[:, None]

    def average_views(self, outputs: Sequence[Tensor], mirrored: Sequence[bool], size: Pair) -> Tensor:
        """The mean of the pictures."""
        pictures = [each.flip(-1) if turned else each for each, turned in zip(outputs, mirrored, strict=True)]
        return torch.stack(pictures).mean(dim=0)

    def as_targets(self, predictions: Sequence[Prediction]) -> list[Tensor]:
        """The pictures."""
        return [torch.from_numpy(to_8_bits(each.levels)).permute(2, 0, 1) for each in predictions]

    def metrics(self) -> Metrics:
        """PSNR and SSIM, without as many pixels at the edges as the scale."""
        return Metrics(self.names, self.config.scale if self.config.scale > 1 else 0)

    def _features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """After and before the blocks, both B D h w."""
        images = (images - self._mean(images)) * self.config.pixel_range
        patches = self.vit.embed(images)
        tokens, grid, positions = self.vit.tokenise(images, self.entry(patches))
        attend = Groups(Windows(grid, self.vit.depth, self.config.window, None), self._ends, grid)
        features = self.vit.encode(tokens, positions, attend)[:, self.vit.num_prefix :]
        return on_grid(features, grid), on_grid(patches, grid)

    def _mean(self, like: Tensor) -> Tensor:
        """Of the channels, C 1 1."""
        return torch.tensor(self.config.mean, dtype=like.dtype, device=like.device)[:, None, None]

    @property
    def _ends(self) -> dict[int, GroupConvolution]:
        return {int(layer): end for layer, end in self.groups.items() if isinstance(end, GroupConvolution)}

    def _bands(self, found: Iterable[TileOutputs], grid: TileGrid) -> Iterable[Tensor]:
        """Rows of the picture, (C, rows, W), from the top."""
        large = EnlargedGrid(grid, self.config.scale)
        parts = ((large.tile(each.tile), [self._shown(each)]) for each in found)
        return blended(parts, large)

    def _shown(self, tile: TileOutputs) -> tuple[slice, Tensor]:
        """The outputs of a tile without those of what continues it."""
        height, width = (side * self.config.scale for side in tile.tile.size)
        return slice(0, height), tile.outputs[:, :height, :width].cpu()

    def _in_image(self, values: Tensor, geometry: ImageGeometry) -> Tensor:
        """Outputs (C, s·H, s·W) → of the image, (C, s·h, s·w)."""
        if geometry == ImageGeometry.identity(geometry.original):
            return values
        scale = self.config.scale
        region = tuple(scale * side for side in geometry.region)
        sizes = [(scale * height, scale * width) for height, width in (geometry.size, geometry.original)]
        return ImageGeometry(region, *sizes).original_values(values.cpu())  # type: ignore[arg-type]


def in_8_bits(values: Tensor) -> Tensor:
    """Values from 0 to 1 → uint8."""
    return (values * 255).round().clamp(0, 255).to(torch.uint8)


def pixel_head(config: Config) -> nn.Module:
    """Features after and before the blocks, B D h w, → pixels, B C s·H s·W."""
    dim, channels, factor = config.model.dim, config.model.channels, config.scale * stride_of(config.model)
    if config.upsampler.kind == "direct":
        return PixelHead(dim, channels, factor, config.convolutions)
    if config.upsampler.kind == "shuffle":
        return ShuffleHead(dim, channels, factor, config.upsampler, config.convolutions)
    return NearestHead(dim, channels, factor, config.upsampler, config.convolutions)


def light(channels: int = 3) -> ViTConfig:
    """The model by default: a token for each pixel, made of 3 × 3 of them; few and narrow blocks, since a step then
    costs a fifth of one of 0.2 million parameters and teaches as much."""
    return from_dict(ViTConfig, {**LIGHT, "channels": channels})


def exact_tiles(task: Config, size: int = TILE) -> TileConfig:
    """Tiles whose results are those of the entire picture, where attention is in windows: placed as the windows are,
    and overlapping as far as the model sees. Of a model that sees further than half a tile they are blended instead."""
    reach, stride = task.reach, stride_of(task.model)
    mixed = TileConfig(size=(size, size), align=stride)
    if reach is None or task.window is None:
        return mixed
    align = task.window.size * stride
    margin = -(-reach // align) * align
    if 2 * margin >= size:
        return mixed
    return TileConfig(size=(size, size), overlap=2 * margin / size, align=align, blend=False)
