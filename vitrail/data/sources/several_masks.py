"""Images with a mask file for each object, or for each class: ``images/a.jpg`` with ``masks/a_mask_0.png``, ``a_1.png``
or ``masks/a/cat_1.png``, or a folder of ``images/`` and ``masks/`` for each image (the layout of the Data Science Bowl
2018).

A pixel that is not black is in the mask. Words in the names of masks are classes; without any there is one, ``object``.
Where each image has at most one mask of a class and none is numbered, they are read as a class for each pixel, with
``background`` where none is, or with kind=masks as objects.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from vitrail import console
from vitrail.data.indexing.index import Strings
from vitrail.data.indexing.names import classes_beside
from vitrail.data.media.decode import BadImage
from vitrail.data.source import Source, SourceConfig
from vitrail.data.storage.files import Files
from vitrail.data.storage.objects import number_of, unknown_class
from vitrail.data.storage.scenes import SceneImage, scene_sources
from vitrail.data.storage.several_masks import ClassMasks, MaskedImage, are_classes, read_mask, several_masks
from vitrail.data.targets import Labels
from vitrail.errors import UserError

BACKGROUND = "background"


def matches(spec: str) -> bool:
    return bool(several_masks(Path(spec).expanduser()))


def load(config: SourceConfig) -> dict[str, Source]:
    """Raises UserError where no image has several masks, and with all flaws for masks that cannot be read."""
    splits = several_masks(config.path)
    if not splits:
        raise UserError(
            f"{config.path} holds no images with several masks each, as images/a.jpg and masks/a_0.png; check the path"
        )
    if are_classes([image for images in splits.values() for image in images]) and config.wants("semantic"):
        return _of_classes(splits, config)
    scenes: dict[str, list[SceneImage]] = {}
    for split, images in splits.items():
        scenes[split] = list(console.track(map(_scene, images), "reading masks", len(images)))
    return scene_sources(scenes, {split: [config.path] for split in scenes}, config, what="folders of masks")


def _scene(image: MaskedImage) -> SceneImage:
    scene = SceneImage(image.file, 0, os.path.abspath(image.file), None)
    for each in image.masks:
        try:
            mask = read_mask(each.file)
        except BadImage as error:
            scene.faults.append(str(error))
            continue
        if mask.any():
            scene.mask(each.name, mask)
        else:
            scene.left_out.append("masks without a pixel")
    return scene


def _of_classes(splits: dict[str, list[MaskedImage]], config: SourceConfig) -> dict[str, Source]:
    seen = {mask.name for image in splits.get("train") or next(iter(splits.values())) for mask in image.masks}
    classes = config.classes or classes_beside(config.path) or (BACKGROUND, *sorted(seen - {BACKGROUND}))
    number = number_of(classes)
    for image in (image for images in splits.values() for image in images):
        if strange := next((mask for mask in image.masks if mask.name not in number), None):
            raise UserError(f"{strange.file} is of the {unknown_class(strange.name, classes)}; rename or remove it")
    console.note(
        f"{config.spec}: a mask for each class, {len(classes)} with {classes[0]!r} where none is; kind=masks reads "
        "objects"
    )
    return {split: _maps(images, classes, number) for split, images in splits.items()}


def _maps(images: list[MaskedImage], classes: tuple[str, ...], number: dict[str, int]) -> Source:
    paths = [os.fsencode(os.path.abspath(image.file)) for image in images]
    none = np.empty(0, np.float32)
    files = Files(targets=none, kind="none", classes=(), root=b"", paths=Strings.of(paths))
    maps = ClassMasks(tuple(images), number, np.arange(len(images)))
    return files.labelled(Labels("semantic", classes, maps))
