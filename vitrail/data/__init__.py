"""Data: sources, decoding, preprocessing, augmentation, and the loader that turns them into batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field

from vitrail.config import config
from vitrail.data.annotations import Annotations
from vitrail.data.batch import views_of
from vitrail.data.loading.loader import Loader, LoaderConfig
from vitrail.data.media.decode import BadImage, decode
from vitrail.data.objects import Objects, ObjectsBatch
from vitrail.data.source import Source, SourceConfig, Splits, open_source
from vitrail.data.targets import TargetKind
from vitrail.data.transforms.augment import Augment, Augmentation, AugmentConfig, augmentation
from vitrail.data.transforms.combine import Combine
from vitrail.data.transforms.mix import Mix, MixConfig
from vitrail.data.transforms.preprocess import Preprocess, PreprocessConfig, PreprocessOptions
from vitrail.data.transforms.scene import SceneAugment
from vitrail.data.transforms.scene_config import SceneAugmentation, SceneAugmentConfig
from vitrail.data.transforms.tile_augment import TileAugment, TileSampling
from vitrail.data.transforms.views import ViewConfig, Views
from vitrail.registry import submodules

__all__ = [
    "Annotations",
    "Augment",
    "AugmentConfig",
    "BadImage",
    "Combine",
    "Data",
    "DataConfig",
    "Loader",
    "LoaderConfig",
    "Mix",
    "MixConfig",
    "Objects",
    "ObjectsBatch",
    "Preprocess",
    "PreprocessConfig",
    "PreprocessOptions",
    "SceneAugment",
    "SceneAugmentConfig",
    "Source",
    "SourceConfig",
    "Splits",
    "TargetKind",
    "TileAugment",
    "TileSampling",
    "ViewConfig",
    "Views",
    "augmentation",
    "decode",
    "open_data",
    "open_source",
    "views_of",
]


@config
class DataConfig:
    """Which images, prepared how. ``augment`` and ``scenes`` may be written as the name of a preset.

    Args:
        scenes: in place of ``augment`` where targets are spatial: boxes, masks, class maps.
        tiles: in training on ``preprocess.tiles``, which ones.
        views: where a method learns from several views of an image, those, instead of one by ``augment``.
    """

    source: SourceConfig
    preprocess: Annotated[
        PreprocessOptions,
        BeforeValidator(lambda value: value.options() if isinstance(value, PreprocessConfig) else value),
    ] = Field(default_factory=PreprocessOptions)
    augment: Augmentation = Field(default_factory=AugmentConfig)
    scenes: SceneAugmentation = Field(default_factory=SceneAugmentConfig)
    tiles: TileSampling = Field(default_factory=TileSampling)
    views: tuple[ViewConfig, ...] = ()
    loader: LoaderConfig = Field(default_factory=LoaderConfig)


@dataclass(frozen=True)
class Data:
    """Opened splits and the loaders over them."""

    config: DataConfig
    splits: Splits

    @property
    def kind(self) -> str:
        """The name of the target kind."""
        return self.splits.kind

    @property
    def target_kind(self) -> TargetKind[Any, Any]:
        """What the targets are and do."""
        return self.splits.target_kind

    @property
    def classes(self) -> tuple[str, ...]:
        return self.splits.classes

    def split(self, name: str) -> Source:
        """The source of "train", "val" or "test".

        Raises:
            UserError: the data has no such split.
        """
        return self.splits.split(name)

    def train_loader(self, *, seed: int = 0, epochs: int | None = None, rank: int = 0, world_size: int = 1) -> Loader:
        """Shuffled, augmented and mixed batches of the training split, or such of several views.

        Args:
            epochs: of the training, where its last ones are augmented less (``scenes.close``).
        """
        config, preprocess = self.config, self.config.preprocess.resolve()
        at: Any = {"seed": seed, "rank": rank, "world_size": world_size}
        if (own := self.target_kind.training(preprocess)) is not None:
            return Loader(self.split("train"), own, config.loader, train=True, **at)
        if self.target_kind.spatial:
            scenes: SceneAugment[Any] = SceneAugment(config.scenes, preprocess, self.target_kind)
            if preprocess.tiles is not None:
                scenes = TileAugment(config.scenes, preprocess, self.target_kind, sampling=config.tiles)
            source, combine = self.split("train"), Combine(scenes, len(self.split("train")), epochs)
            return Loader(source, scenes, config.loader, train=True, combine=combine, **at)
        return Loader(
            self.split("train"),
            Views(config.views, preprocess) if config.views else Augment(config.augment, preprocess),
            config.loader,
            train=True,
            mix=Mix(config.augment.mix, self.kind, len(self.classes)),
            repeats=config.augment.repeats,
            **at,
        )

    def eval_loader(self, split: str = "val", *, rank: int = 0, world_size: int = 1) -> Loader:
        """Every sample of a split once, in order, prepared as for inference."""
        preprocess = Preprocess(self.config.preprocess)
        return Loader(self.split(split), preprocess, self.config.loader, train=False, rank=rank, world_size=world_size)


def open_data(config: DataConfig) -> Data:
    """Open the source's splits.

    Raises:
        UserError: as ``open_source``.
    """
    return Data(config, open_source(config.source))


if not TYPE_CHECKING:  # else a mistake in a name would go unnoticed
    __getattr__ = submodules(__name__)
