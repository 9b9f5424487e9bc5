"""One kind of target a file: what the targets of a data set are, how they move with their images, and how they batch.

A file gives its kind as ``KIND``, a :class:`TargetKind`. The file is called as the kind is, with an underscore behind a
Python keyword (``class_.py`` is the kind ``class``). A third party's kind is the dotted name of its module,
``my_pkg.depth``. Config files, run folders and ``Task.takes`` hold these names.
"""

from __future__ import annotations

import keyword
from abc import ABC
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeAlias, TypeVar, cast, overload

import numpy as np
import torch
from torch import Tensor

from vitrail import registry
from vitrail.data.tally import Extents as Extents
from vitrail.data.tally import Tally as Tally
from vitrail.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from PIL import Image
    from torchvision.tv_tensors import TVTensor

    from vitrail.data.batch import Targets
    from vitrail.data.transforms.geometry import ImageGeometry
    from vitrail.data.transforms.preprocess import PreprocessConfig
    from vitrail.data.transforms.scene import SceneTransform
    from vitrail.ops.grid import Pair


class StoredColumn(Protocol):
    """The targets of N images: by position one of them, by an int64 array those of some images, as a column."""

    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, index: int, /) -> object: ...
    @overload
    def __getitem__(self, index: np.ndarray, /) -> Column: ...
    def tobytes(self) -> bytes:
        """What distinguishes these targets from others."""


Column: TypeAlias = np.ndarray | StoredColumn
"""The targets of a data set: an array with a row for each image, or an object of its own."""
T = TypeVar("T")
"""The target of one image."""
C = TypeVar("C", bound=Column)
"""The targets of a data set."""

Raw: TypeAlias = np.ndarray | list[tuple[str, ...]]
"""Labels of N images as they are stored: integers, floats or names, (N,) or (N, K), or a list of lists of names."""
Where: TypeAlias = Callable[[str, int], str]
"""(split, position) → how to call that label in an error."""


@dataclass(frozen=True)
class Labels:
    """The targets of a source: their kind, the names of classes or numbers, and the column."""

    kind: str
    classes: tuple[str, ...]
    targets: Column


MORE_CLASSES = "a model needs two to tell apart: give images of another one"
"""What to do where a training has one class."""


class TargetKind(ABC, Generic[T, C]):
    """What the targets of one kind are and do. The defaults are those of image-level labels.

    Attributes:
        name: as files and configs write it; of a third party's kind the module's name.
        wording: what the images have, as in "the data has several labels an image".
        noun: what ``classes`` names, for counting: "3 classes".
        labelled: false only of images without targets.
        exclusive: each image has exactly one class: the column is int64 (N,), and splits are stratified by it.
        has_classes: ``classes`` names classes, which a model's must match.
        spatial: targets have places in the image, and move with it.
        numeric: table cells must be numbers.
        separated: a table cell may hold several labels.
        fills: of the parts that are not bordered with 0, the value beyond the image.
        made_of_images: any images have such targets (:meth:`of_images`), where their source has none.
    """

    wording: str
    noun: ClassVar[str] = "class"
    labelled: ClassVar[bool] = True
    exclusive: ClassVar[bool] = False
    has_classes: ClassVar[bool] = False
    spatial: ClassVar[bool] = False
    numeric: ClassVar[bool] = False
    separated: ClassVar[bool] = False
    made_of_images: ClassVar[bool] = False
    fills: Mapping[str, float] = MappingProxyType({})

    def __init__(self, name: str) -> None:
        self.name = name

    # of a data set

    def encode(
        self, raw: Mapping[str, Raw], *, classes: tuple[str, ...], columns: tuple[str, ...], where: Where
    ) -> dict[str, Labels]:
        """The labels of all splits, as a table or an archive stores them, with one class list.

        Args:
            classes: the class names in order; empty: those of the training labels.
            columns: the names of K columns.
            where: the place of a label, for an error.

        Raises:
            UserError: a label that is missing, not finite, out of range or unknown; labels are no such targets.
        """
        raise UserError(
            f"{where(next(iter(raw)), 0)}: labels are no {self.wording}; give other data, or leave kind out"
        )

    def of_images(self, number: int) -> Labels:
        """The targets of so many images that have no others."""
        raise NotImplementedError(f"{self.name}: targets that are made of images are made here")

    def check_classes(self, classes: Sequence[str], spec: str) -> None:
        """Refuse class names that nothing can be learned from.

        Raises:
            UserError: naming ``spec``.
        """

    def take(self, column: C, indices: np.ndarray) -> C:
        """The targets of the images at ``indices`` int64 (n,), in that order."""
        return cast("C", column[indices])

    def read(self, column: C, index: int) -> T:
        """The target of one image.

        Raises:
            BadImage: it is stored in a file that cannot be read.
        """
        return cast("T", column[index])

    def opened(self, column: C, index: int) -> T:
        """The same where a part of it will be cut out (:meth:`cut_out`): it may be read when that is known.

        Raises:
            BadImage: as above.
        """
        return self.read(column, index)

    def require_known(self, target: T, num_classes: int) -> None:
        """Refuse a target of a class that is none of the data's, where its values are read with the image.

        Raises:
            BadImage: what it holds.
        """

    def fingerprint(self, column: C) -> bytes:
        """What distinguishes these targets from others."""
        return column.tobytes()

    def counts(self, column: C, num_classes: int) -> np.ndarray | None:
        """Images, or objects, of each class, int64 (K,); None where none are counted."""
        return None

    def cannot_teach(self, column: C, classes: Sequence[str]) -> str | None:
        """Why a training on all these targets would learn nothing, and what to do; None where it would not."""
        return None

    def most(self, column: C) -> int:
        """Objects, or segments, of an image at most that are to be found; 0 where targets are none."""
        return 0

    def tally(self, column: C, index: int, num_classes: int) -> Tally:
        """What the target of an image holds of each class, for `data check` and `data stats`.

        Raises:
            BadImage: it is stored in a file that cannot be read.
        """
        return Tally()

    def ranges(self, column: C, names: Sequence[str]) -> dict[str, tuple[float, float, float, float]]:
        """(minimum, mean, standard deviation, maximum) of each number by name; empty where targets are no numbers."""
        return {}

    def extents(self, column: C) -> Extents | None:
        """The sizes of objects; None where targets are none."""
        return None

    def describe(self, classes: Sequence[str]) -> str:
        """The classes or numbers in a line: ``3 classes (a, b, c)``."""
        count = len(classes)
        plural = "" if count == 1 else "es" if self.noun.endswith("s") else "s"
        shown = ", ".join(classes[:5]) + (", …" if count > 5 else "")
        return f"{count:,} {self.noun}{plural} ({shown})"

    def stranger(self, column: C, index: int, grey: np.ndarray) -> str | None:
        """Why the target of an image cannot be its own, for `data check`; None: it may be.

        Args:
            grey: of the image, uint8 (T, T), each the mean of its part; all 0 where the image has none.
        """
        return None

    def faults(self, column: C, index: int, size: tuple[int, int], classes: Sequence[str]) -> Iterator[str]:
        """What is wrong with the target of an image of this (height, width), each as "has …"."""
        return iter(())

    # of an image

    def text(self, column: C, index: int, classes: Sequence[str]) -> str:
        """The target of an image in words."""
        return self.wording

    def draw(self, image: Image.Image, target: T, classes: Sequence[str]) -> Image.Image:
        """The picture with its target on it; without places, the picture itself."""
        return image

    def caption(self, target: Tensor | T, classes: Sequence[str]) -> tuple[str, str]:
        """Title and note of an image in a training batch, by its row of ``collate`` (which may be mixed)."""
        return "", ""

    def folder(self, column: C, index: int, classes: Sequence[str]) -> str | None:
        """The class whose folder an exported image lies in; None: in none."""
        return None

    def columns(self, classes: Sequence[str]) -> tuple[str, ...]:
        """The label columns of an exported table."""
        return ()

    def cells(self, column: C, index: int, classes: Sequence[str]) -> list[object]:
        """An image's cells of those columns."""
        return []

    # of a spatial target and its image

    def size(self, target: T) -> tuple[int, int]:
        """(height, width) of the image that a spatial target is of."""
        raise NotImplementedError(f"{self.name}: spatial kinds have a size")

    def to_input(self, target: T, geometry: ImageGeometry) -> T:
        """From pixels of the image to pixels of the model's input."""
        return target

    def to_original(self, target: T, geometry: ImageGeometry) -> T:
        """From pixels of the model's input to pixels of the image."""
        return target

    def places(self, target: T) -> Tensor:
        """Boxes_xyxy (n, 4) of what is to be found, in pixels of the image; training on tiles shows these."""
        return torch.zeros(0, 4)

    def cut_out(self, target: T, geometry: ImageGeometry, share: float) -> T:
        """As :meth:`to_input`, of a part that is cut out of the image as it is.

        Args:
            share: of itself, which must be in the part for what that cuts to be kept.
        """
        return self.to_input(target, geometry)

    def parts(self, target: T) -> dict[str, TVTensor]:
        """What transforms move along with the image, by any names but ``image`` and ``padding``."""
        return {}

    def from_parts(self, target: T, parts: Mapping[str, TVTensor], size: tuple[int, int]) -> T:
        """The target with its moved parts, in an image of ``size`` (height, width) now."""
        return target

    # of pictures and their targets as a model sees them

    def training(self, preprocess: PreprocessConfig) -> SceneTransform[T] | None:
        """What makes training samples where the kind has a way of its own; None: the usual augmentation."""
        return None

    def evaluation(self, preprocess: PreprocessConfig, batch_size: int) -> SceneTransform[T] | None:
        """The same of samples for evaluation; None: prepared as for prediction.

        Args:
            batch_size: tiles in a forward pass at most.
        """
        return None

    # of images that become one

    def combine_fault(self, *, mosaic: bool, copy_paste: bool, mixup: bool) -> str | None:
        """Why targets of several images cannot become one so, and what to do; None where they can.

        Where ``mosaic`` or ``mixup`` can, there is :meth:`joined`, where ``copy_paste`` can, :meth:`pasted`.
        """
        wanted = {"mosaic": mosaic, "copy_paste": copy_paste, "mixup": mixup}
        return next((refusal(name, f"with {self.wording}") for name, on in wanted.items() if on), None)

    def joined(self, targets: Sequence[T], corners: Sequence[Pair], size: Pair) -> T:
        """The target of an image of ``size`` (height, width) with images in it, at their (top, left) ``corners``.

        They lie beside each other, or with mixup on each other.
        """
        raise NotImplementedError(f"{self.name}: targets that can be combined are joined")

    def num_objects(self, target: T) -> int:
        """Objects of which some can be put over another image."""
        return 0

    def pasted(self, target: T, other: T, chosen: Tensor) -> tuple[T, Tensor]:
        """The target with objects of another image of its size over its own, and which pixels those have, bool (H, W).

        Args:
            chosen: bool (n,), of :meth:`num_objects` of ``other``; crowds and the like are left out all the same.
        """
        raise NotImplementedError(f"{self.name}: objects that can be put over an image are pasted")

    # of a batch

    def collate(self, targets: Sequence[T] | C) -> Targets | None:
        """The targets of B images for a loss, in their own dtype; None where images have none.

        Args:
            targets: a list of spatial targets; of other kinds what ``take`` gives.
        """
        raise NotImplementedError(f"{self.name}: targets have a batch")

    def mix_fault(self, *, mixup: bool, cutmix: bool) -> str | None:
        """Why the targets of two images cannot be blended so, and what to do; None where they can."""
        return None

    def blendable(self, targets: Tensor, num_classes: int) -> Tensor:
        """The targets (B, …) as numbers (B, K) that may be added with weights."""
        return targets


def refusal(setting: str, why: str) -> str:
    """That images ``why`` cannot be combined as a setting of ``data.scenes`` wants."""
    return f"data.scenes.{setting} cannot combine images {why}; set data.scenes.{setting}=0"


def names() -> list[str]:
    """The kinds that Vitrail brings, sorted."""
    return sorted(name.removesuffix("_") for name in registry.names("data.targets"))


@cache
def load(name: str) -> TargetKind[Any, Any]:
    """The kind of this name, or a third party's by its dotted name.

    Raises:
        UserError: there is none, with the closest name.
    """
    if "." not in name and name not in names():
        raise UserError(f"unknown target kind {name!r}; {did_you_mean(name, names())}")
    module = registry.load("data.targets", f"{name}_" if keyword.iskeyword(name) else name)
    kind: TargetKind[Any, Any] = module.KIND
    assert kind.name == name, f"{module.__name__}.KIND is called {kind.name!r}"
    return kind


def check_name(name: str) -> str:
    """The name itself, where a config may hold it; nothing is imported.

    Raises:
        ValueError: it is neither ours nor dotted.
    """
    if name not in names() and not ("." in name and all(part.isidentifier() for part in name.split("."))):
        raise ValueError(f"no such target kind; {did_you_mean(name, names())}")
    return name
