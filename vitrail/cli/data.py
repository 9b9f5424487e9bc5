"""Check a data set, compute its statistics, draw samples, or write it as files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from vitrail.terminal.next_command import name_next
from vitrail.terminal.options import AllowPickle, Encoding, Json, MaxPixels, Names, Page, Set, ValueRange, print_json

if TYPE_CHECKING:
    from vitrail.data.media.reading import Reading
    from vitrail.data.source import SourceConfig, Splits
    from vitrail.predictor import Predictor

GROUP = "Prepare and train"

Spec = Annotated[
    str, Parameter(help="A folder, .csv, .npz, .tar, .zip, .json (COCO) or .yaml (YOLO), or a name such as digits.")
]
Kind = Annotated[
    str,
    Parameter(
        "--kind",
        help="Of spatial targets: boxes, masks, semantic (a class for each pixel) or panoptic; auto: as found.",
    ),
]
Unlabelled = Annotated[
    bool, Parameter("--unlabelled", help="Take the images alone, wherever they lie.", show_default=False)
]
AllowEmptyClass = Annotated[
    bool, Parameter("--allow-empty-class", help="Accept a class without images.", show_default=False)
]
Channels = Annotated[int | None, Parameter("--channels", help="Decode to so many channels.", show_default=False)]
Workers = Annotated[int | None, Parameter("--workers", help="Processes; default: one a core.", show_default=False)]

app = App(name="data", help=__doc__)


@app.command
def check(
    spec: Spec,
    /,
    *,
    unlabelled: Unlabelled = False,
    allow_empty_class: AllowEmptyClass = False,
    channels: Channels = None,
    workers: Workers = None,
    encoding: Encoding = None,
    value_range: ValueRange = None,
    page: Page = None,
    max_pixels: MaxPixels = None,
    exclude: Annotated[
        str | None, Parameter("--exclude", help="A table or list of images to leave out.", show_default=False)
    ] = None,
    model: Annotated[
        str | None,
        Parameter(
            "--model",
            help="Look through the eyes of a model too: a run, a file, or a name of vitrail models --pretrained.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        Parameter("--out", help="With --model, a folder for tables and picture sheets.", show_default=False),
    ] = None,
    allow_pickle: AllowPickle = False,
    names: Names = None,
    as_json: Json = False,
    overrides: Set = (),
) -> int:
    """Decode every image, and tell what is wrong and what training would silently do.

    Lists each bad file with its cause, duplicates under two labels, pictures that look the same in two splits, empty
    and uneven classes, objects and pixels of each class with crowds and difficult objects apart, images without
    labels, and files that are not 8-bit grey or RGB. With --model, also near twins across splits by their features,
    labels that neighbours contradict, and outliers, each as a picture sheet and a table that --exclude takes back, here
    and in train and evaluate. Exits with 2 where an image is bad, or nothing can be learned.

    Examples
      vitrail data check photos/
      vitrail data check photos/ --json
      vitrail data check photos/ --model runs/photos --out looked-at
      vitrail data check photos/ --exclude looked-at/outliers.csv
    """
    from vitrail.data.inspection.check import check as check_data
    from vitrail.errors import UserError
    from vitrail.loading import load

    if (model is None) != (out is None):
        raise UserError("--model and --out belong together: a model to look with, and a folder for what it notices")
    more = () if exclude is None else (f"exclude={exclude}",)
    config = _config(spec, unlabelled, allow_empty_class, (*more, *overrides), encoding)
    report = check_data(config, channels=channels, workers=workers, reading=_reading(value_range, page))
    noticed = (
        []
        if model is None or out is None or not report.num_images
        else _look(load(model, allow_pickle=allow_pickle, names=names), config, out)
    )
    if as_json:
        print_json(report.to_dict() | ({"looked": noticed} if noticed else {}))
    else:
        print("\n".join([*report.lines(), *noticed]))
    if not report.bad and report.refusal is not None:
        raise UserError(f"{spec!r} cannot be learned from: {report.refusal}")
    if not report.ok:
        others = f" (and {len(report.bad) - 1:,} more)" if len(report.bad) > 1 else ""
        raise UserError(f"{report.bad[0]}{others}; repair or remove what is bad, or train with --on-bad skip")
    name_next("train", spec, quiet=as_json)
    return 0


def _look(predictor: Predictor, config: SourceConfig, out: Path) -> list[str]:
    """What a model notices, in lines."""
    from vitrail.data.inspection.teaching import too_many
    from vitrail.data.source import open_source
    from vitrail.probe.data_check import look
    from vitrail.tasks import Task
    from vitrail.terminal.model_check import write_look

    splits = open_source(config)
    capacity = predictor.task.capacity if isinstance(predictor.task, Task) else None
    few = [] if capacity is None else [too_many(source, capacity, split) for split, source in splits.items()]
    return [*(line for line in few if line), *write_look(look(predictor, splits), splits, out)]


@app.command
def stats(
    spec: Spec,
    /,
    *,
    unlabelled: Unlabelled = False,
    allow_empty_class: AllowEmptyClass = False,
    limit: Annotated[int | None, Parameter(help="Decode so many images of a split.", show_default=False)] = None,
    channels: Channels = None,
    workers: Workers = None,
    encoding: Encoding = None,
    value_range: ValueRange = None,
    page: Page = None,
    max_pixels: MaxPixels = None,
    as_json: Json = False,
    overrides: Set = (),
) -> None:
    """Count images and classes, and measure sizes, channel means and standard deviations.

    Examples
      vitrail data stats photos/
      vitrail data stats digits --limit 100
    """
    from vitrail.data.inspection.stats import lines
    from vitrail.data.inspection.stats import stats as measure

    splits = _open(spec, unlabelled, allow_empty_class, overrides, encoding)
    reading = _reading(value_range, page)
    result = measure(splits, limit=limit, channels=channels, workers=workers, reading=reading)
    if as_json:
        print_json({split: each.to_dict() for split, each in result.items()})
    else:
        print(lines(result))
    name_next("data", "check", spec, quiet=as_json)


@app.command
def export(
    spec: Spec,
    /,
    *,
    out: Annotated[Path, Parameter("--out", help="A new folder.")],
    split: Annotated[str, Parameter("--split", help="train, val or test.")] = "train",
    limit: Annotated[int | None, Parameter("--limit", help="Only so many images.", show_default=False)] = None,
    value_range: ValueRange = None,
    page: Page = None,
    max_pixels: MaxPixels = None,
    overrides: Set = (),
) -> None:
    """Write a data set as PNG files: a folder a class, or labels.csv next to the images.

    Examples
      vitrail data export digits --limit 20 --out digits-png
    """
    from vitrail.data.inspection.export import export as write

    source = _open(spec, False, False, overrides).split(split)
    written = write(source, out, limit=limit, reading=_reading(value_range, page))
    print(f"wrote {written} images to {out}")
    name_next("train", out)


@app.command
def convert(
    spec: Spec,
    out: Annotated[Path, Parameter(help="A new folder.")],
    /,
    *,
    to: Annotated[str, Parameter("--to", help="coco, coco_panoptic, voc, yolo, masks or csv.")],
    kind: Kind = "auto",
    overrides: Set = (),
) -> None:
    """Write a data set in another format, with copies of its images.

    Of masks, class maps can be written, of class maps their connected parts as masks or boxes, and of segments their
    things. What a format cannot hold is said in a line.

    Examples
      vitrail data convert scenes/ scenes-coco --to coco
      vitrail data convert scenes/ scenes-yolo --to yolo --kind boxes
    """
    from vitrail.data.inspection.convert import convert as write
    from vitrail.data.inspection.convert import open_to_write

    config = _config(spec, False, False, (f"kind={kind}", "val_fraction=0", *overrides), None)
    written = write(open_to_write(config, to), out, to)
    print(f"wrote {', '.join(f'{count:,} {split}' for split, count in written.items())} images to {out} as {to}")
    name_next("data", "check", out)


@app.command
def inspect(
    spec: Spec,
    /,
    *,
    out: Annotated[Path, Parameter("--out", help="A folder for the pictures.")],
    split: Annotated[str, Parameter("--split", help="train, val or test.")] = "train",
    limit: Annotated[int, Parameter("--limit", help="So many, evenly spaced.")] = 12,
    kind: Kind = "auto",
    value_range: ValueRange = None,
    page: Page = None,
    max_pixels: MaxPixels = None,
    overrides: Set = (),
) -> None:
    """Draw samples with their boxes, masks or class maps on them.

    Examples
      vitrail data inspect scenes/ --limit 3 --out drawn-scenes
    """
    from vitrail.data.inspection.drawn import drawn
    from vitrail.terminal.pictures import save_new, stem_of

    count = 0
    source = _open(spec, False, False, (f"kind={kind}", *overrides)).split(split)
    for name, picture in drawn(source, limit, _reading(value_range, page)):
        save_new(picture, out / f"{stem_of(name)}.png")
        count += 1
    print(f"drew {count} of {len(source):,} {split} images into {out}")
    name_next("train", spec)


def _open(
    spec: str, unlabelled: bool, allow_empty_class: bool, overrides: tuple[str, ...], encoding: str | None = None
) -> Splits:
    from vitrail.data.source import open_source

    return open_source(_config(spec, unlabelled, allow_empty_class, overrides, encoding))


def _config(
    spec: str, unlabelled: bool, allow_empty_class: bool, overrides: tuple[str, ...], encoding: str | None
) -> SourceConfig:
    from vitrail.config import override, parse_assignments
    from vitrail.data.source import SourceConfig

    config = SourceConfig(spec=spec, labelled=not unlabelled, allow_empty_class=allow_empty_class)
    changes = {} if encoding is None else {"encoding": encoding}
    return override(config, {**changes, **parse_assignments(overrides, SourceConfig)})


def _reading(value_range: str | None, page: int | None) -> Reading:
    from vitrail.config import override
    from vitrail.data.media.reading import Reading, read_range

    return override(Reading(page=page), {} if value_range is None else {"value_range": list(read_range(value_range))})
