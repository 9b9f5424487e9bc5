"""Options that several verbs share, so that each is defined once.

::

    def models(name: str | None = None, /, *, as_json: Json = False, overrides: Set = ()) -> None: ...
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from cyclopts import Parameter
from cyclopts.types import NonNegativeInt, PositiveInt

from vitrail.errors import UserError

MAX_PIXELS_VARIABLE = "VITRAIL_MAX_PIXELS"  # read in vitrail.data, which help does not import

if TYPE_CHECKING:
    from vitrail.predictor import Predictor

Weights: TypeAlias = Annotated[
    str,
    Parameter(
        help="A run folder, a weights file (.safetensors, .npz, .pth), another library's folder, hf://owner/name, "
        "or an exported file (.onnx, .xml, .pt2)."
    ),
]

Json: TypeAlias = Annotated[bool, Parameter("--json", help="Print JSON on stdout.", show_default=False)]
Set: TypeAlias = Annotated[
    tuple[str, ...],
    Parameter(
        "--set",
        help="Change a setting, as in --set model.depth=4; can be repeated.",
        metavar="A.B=C",
        show_default=False,
    ),
]
Device: TypeAlias = Annotated[
    str, Parameter("--device", help="auto, cpu, cuda, cuda:1 or mps; auto takes the fastest and prints it.")
]
BatchSize: TypeAlias = Annotated[PositiveInt, Parameter("--batch-size", help="Images per forward pass.")]
OnBad: TypeAlias = Annotated[
    Literal["error", "skip"],
    Parameter("--on-bad", help="At an unreadable image: stop, or continue and list it at the end."),
]


def _set_max_pixels(_: object, value: int | None) -> None:
    if value is not None:
        os.environ[MAX_PIXELS_VARIABLE] = str(value)  # which loaders' processes inherit


MaxPixels: TypeAlias = Annotated[
    PositiveInt | None,
    Parameter(
        "--max-pixels",
        validator=_set_max_pixels,
        help="Refuse larger images; default: 50 million, or $VITRAIL_MAX_PIXELS.",
        show_default=False,
    ),
]
Encoding: TypeAlias = Annotated[
    str | None,
    Parameter(
        "--encoding",
        help="Of the text of a table, such as cp1252 or shift_jis; default: UTF-8, or as it is marked.",
        show_default=False,
    ),
]
ValueRange: TypeAlias = Annotated[
    str | None,
    Parameter(
        "--value-range",
        metavar="LOW:HIGH",
        help="The values of 16-bit and floating-point images that become black and white, such as 0:4095.",
        show_default=False,
    ),
]
Page: TypeAlias = Annotated[
    NonNegativeInt | None,
    Parameter("--page", help="Of TIFF and DICOM files, from 0 on; default: the first.", show_default=False),
]


AllowPickle: TypeAlias = Annotated[
    bool,
    Parameter(
        "--allow-pickle",
        help="Open files of torch.save (.pt, .pth, .bin) too; only from sources you trust.",
        show_default=False,
    ),
]


Names: TypeAlias = Annotated[
    str | None,
    Parameter(
        "--names",
        metavar="TABLE",
        help="A table of names (.yaml) for weights of no known library; vitrail inspect FILE --draft-names drafts one.",
        show_default=False,
    ),
]


Threshold: TypeAlias = Annotated[
    float | None,
    Parameter(
        "--threshold",
        help="Predict what has at least this score, of objects, segments or labels; default: as the model was trained.",
        show_default=False,
    ),
]
Merge: TypeAlias = Annotated[
    int, Parameter(metavar="R", help="Merge R patch tokens in each layer (ToMe): faster, slightly less accurate.")
]


@Parameter(name="*")
@dataclass(frozen=True)
class Sizes:
    """Another native size for a model's weights."""

    image_size: Annotated[
        str | None,
        Parameter(
            metavar="384 | 224x320", help="Another image size, height x width; position embeddings are resampled."
        ),
    ] = None
    patch_size: Annotated[
        str | None, Parameter(metavar="8 | 16x32", help="Another patch size; the kernel is resized.")
    ] = None

    def read(self) -> dict[str, tuple[int, int] | None]:
        """``image_size`` and ``patch_size`` as (height, width), None where not given."""
        sizes = {"image_size": self.image_size, "patch_size": self.patch_size}
        return {name: None if size is None else read_size(size) for name, size in sizes.items()}


@Parameter(name="*")
@dataclass(frozen=True)
class Opening(Sizes):
    """Options of verbs that open a model."""

    device: Device = "auto"
    allow_pickle: AllowPickle = False
    names: Names = None

    def load(self, weights: str) -> Predictor:
        """The model ready to use."""
        return self._load(weights)

    def _load(self, weights: str, **more: Any) -> Predictor:
        from vitrail.loading import load

        options: dict[str, Any] = {**self.read(), "names": self.names, **more}
        return load(weights, device=self.device, allow_pickle=self.allow_pickle, **options)


@Parameter(name="*")
@dataclass(frozen=True)
class Running(Opening):
    """Options of verbs that only run inference."""

    engine: Annotated[
        str | None,
        Parameter(
            help="eager, torch, onnxruntime, openvino or pt2; auto measures them and takes the fastest. "
            "Default: eager, or the engine of an exported file.",
            show_default=False,
        ),
    ] = None
    precision: Annotated[
        Literal["fp32", "bf16", "fp16"], Parameter(help="Arithmetic, where the engine supports it.")
    ] = "fp32"

    exact: Annotated[
        bool,
        Parameter(
            help="Decode large JPEGs at full size; by default at a fraction of it that is still large enough.",
            show_default=False,
        ),
    ] = False
    merge: Merge = 0
    tta: Annotated[
        bool,
        Parameter(
            help="Average what is found in an image and in its mirror image, of restored pictures also in quarter "
            "turns: twice the time, or eight times; often more accurate.",
            show_default=False,
        ),
    ] = False

    def load(self, weights: str) -> Predictor:
        """The model in its engine, merging tokens and averaging views if requested."""
        from vitrail.tta import average_views

        found = self._running(weights)
        return average_views(found) if self.tta else found

    def _running(self, weights: str) -> Predictor:
        if not self.merge:
            return self._load(weights, engine=self.engine, precision=self.precision, exact=self.exact)
        from vitrail.compress import apply

        return apply(self._load(weights, exact=self.exact), "tome", r=self.merge).running(
            self.engine or "eager", self.precision
        )


def read_size(text: str) -> tuple[int, int]:
    """``224`` or ``224x320`` as (height, width).

    Raises:
        UserError: anything else.
    """
    numbers = text.lower().split("x")
    if len(numbers) > 2 or not all(number.isdecimal() and int(number) > 0 for number in numbers):
        raise UserError(f"{text!r} is no size in pixels; write 384 for a square, or 224x320 for height x width")
    return int(numbers[0]), int(numbers[-1])


def print_json(value: object) -> None:
    """One JSON document on stdout; pure ASCII, so that any file name survives any terminal."""
    print(json.dumps(value, indent=2, allow_nan=False))
