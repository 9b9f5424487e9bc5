"""Training from the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from vitrail.terminal.cross_validation import start_folds
from vitrail.terminal.settings import Sets
from vitrail.terminal.tiling import tile_settings
from vitrail.terminal.training import Repeated, Switch, TrainingOptions, start

if TYPE_CHECKING:
    from vitrail.build import LazyCheckpoint
    from vitrail.data import Source
    from vitrail.defaults import Choice
    from vitrail.train.run import Run

GROUP = "Prepare and train"

DISTILLATION_TOKEN = {  # a model with a distillation token beside the class token, and a head for it
    "model.class_token": True,
    "model.distillation_token": True,
    "task_options.pool": "cls_distillation",
    "task_options.head": {"distilled": True},
}
BALANCE: dict[str, dict[str, object]] = {
    "weights": {"task_options.class_weights": "balanced"},
    "sampler": {"data.loader.balanced": True},
}
TRAINED = ("tasks", "generate")
"""Folders of what this verb trains."""
METHODS = {"generation": "flow_matching"}
"""Methods that stand for a subject."""
KEPT = {"pool", "head"}  # options that fine-tuning takes from weights of any task; Task.shaping: from those of its own


def balance_settings(way: str) -> dict[str, object]:
    """The setting of each way to let classes count alike."""
    return dict(BALANCE[way])


def task_settings(name: str) -> dict[str, object]:
    """A task or method; of a subject the method that stands for it."""
    return {"task": METHODS.get(name, name)}


@Parameter(name="*")
@dataclass(frozen=True)
class TrainOptions(TrainingOptions):
    """Options of training on labels."""

    task: Annotated[
        str | None,
        Parameter(
            help="classification, multilabel, regression, detection, detection_deformable, detection_tokens, "
            "instances, segmentation, panoptic, super_resolution or generation (flow_matching); default: that of "
            "--init if it learns from such labels, else by the labels."
        ),
        Sets("task", resolve=task_settings),
    ] = None
    distill: Annotated[
        str | None,
        Parameter(
            help="Learn from a trained model too: a run folder, a weights file, an exported file (.onnx, .xml, .pt2), "
            "any program of torch.export (.pt2), or my_pkg.my_module:function."
        ),
        Sets("distill.teacher"),
    ] = None
    distill_kind: Annotated[
        str | None,
        Parameter(help="Learn the teacher's hard decisions, soft probabilities, or features; default: hard."),
        Sets("distill.kind"),
    ] = None
    distill_token: Annotated[
        Switch,
        Parameter(
            help="Give the model a distillation token, which learns from the teacher while the class token learns "
            "from the labels."
        ),
        Sets(fixed=DISTILLATION_TOKEN),
    ] = False
    quality: Annotated[
        Literal["fast", "good", "best"] | None,
        Parameter(
            help="Minutes for points, where no recipe is given: fast fits the head alone; best averages the weights of "
            "three trainings and predicts by an image and its mirror image. Boxes, masks, maps and trainings from "
            "scratch are a quarter or twice as long instead. Default: good."
        ),
    ] = None
    lora: Annotated[
        int | None,
        Parameter(
            metavar="RANK",
            help="Train low-rank adapters of this rank and the head, and keep the kernels of --init as they are.",
        ),
        Sets("lora", resolve=lambda rank: {"lora": {"rank": int(rank), "alpha": 2.0 * int(rank)}}),
    ] = None
    freeze: Annotated[
        Repeated,
        Parameter(
            help="Parameters to keep as they are: backbone, or a pattern such as vit.embed.*; can be repeated.",
        ),
        Sets("freeze"),
    ] = ()
    tile: Annotated[
        str | None,
        Parameter(
            metavar="640 | 480x640",
            help="Train on random tiles of this many pixels, height x width, which follow the objects, and validate by "
            "overlapping tiles; the model then predicts so. none: not, where --init did.",
        ),
        Sets("data.preprocess.tiles", resolve=tile_settings),
    ] = None
    overlap: Annotated[
        float | None,
        Parameter(help="Share of a tile that its neighbours show too, in validation and prediction; default: 0.2."),
        Sets("data.preprocess.tiles.overlap"),
    ] = None
    scale: Annotated[
        Literal["1", "2", "3", "4"] | None,
        Parameter(
            help="How many times larger pictures become (super_resolution); 1: they are only cleaned. Default: 2, or "
            "that of the recipe."
        ),
        Sets("data.preprocess.degrade.scale", resolve=lambda scale: {"data.preprocess.degrade.scale": int(scale)}),
    ] = None
    balance: Annotated[
        Literal["weights", "sampler"] | None,
        Parameter(help="Classes count alike: weights in the loss, or a sampler that shows rare classes more often."),
        Sets("task_options.class_weights", "data.loader.balanced", resolve=balance_settings),
    ] = None
    exclude: Annotated[
        str | None,
        Parameter(metavar="FILE", help="A table or list of images to leave out, such as data check --out writes."),
        Sets("data.source.exclude"),
    ] = None
    group_column: Annotated[
        str | None,
        Parameter(help="A table's column of groups, such as patients, each of which is trained on or held out."),
        Sets("data.source.group_column"),
    ] = None
    time_column: Annotated[
        str | None,
        Parameter(help="A table's column of dates or numbers, by which the latest images are held out."),
        Sets("data.source.time_column"),
    ] = None
    folds: Annotated[
        int | None,
        Parameter(help="Cross-validation: train on all but one of so many folds, each in turn, or --fold alone."),
        Sets("data.source.folds"),
    ] = None
    fold: Annotated[int | None, Parameter(help="The fold to hold out, from 1 on."), Sets("data.source.fold")] = None
    monitor: Annotated[
        str | None,
        Parameter(
            help="The metric of the validation split that selects the best weights, such as auroc, average_precision, "
            "f1 or loss; default: the task's."
        ),
        Sets("monitor"),
    ] = None
    patience: Annotated[
        int | None,
        Parameter(help="Stop after this many evaluations without improvement."),
        Sets("patience"),
    ] = None

    def first_run(self, data: str | None, given: Mapping[str, object]) -> Run:
        """The recipe, or what suits the data and ``init``."""
        whole = self.recipe is not None or self.config is not None
        return super().first_run(data, given) if whole else self._without_recipe(data, given)

    def _without_recipe(self, data: str | None, given: Mapping[str, object]) -> Run:
        """Model and preprocessing of ``init``, or S/16 from scratch, with the defaults of the task for the data."""
        from vitrail import registry
        from vitrail.build import open_checkpoint
        from vitrail.config import override
        from vitrail.console import note, warn
        from vitrail.data import DataConfig, SourceConfig, augmentation
        from vitrail.data.transforms.scene_config import SCENE_PRESETS
        from vitrail.defaults import Choice, Facts, effective, quality_in_words
        from vitrail.errors import UserError
        from vitrail.pretrain import Pretraining
        from vitrail.train.run import Run
        from vitrail.trainable import image_encoder
        from vitrail.vit_presets import preset

        assert data is not None
        source = SourceConfig(spec=data)
        run = Run(data=DataConfig(source=source, augment=augmentation("light"), scenes=SCENE_PRESETS["light"]))
        options: dict[str, Any] = {"allow_pickle": self.allow_pickle, "names": self.names, "backbone": True}
        found = None if self.init is None else open_checkpoint(self.init, **options)
        run = replace(run, model=preset(self.model or "S/16") if found is None else image_encoder(found.task).config)
        asked = override(run, _of(given, "task.", "data.source."))
        task, train = _opened(asked, found)
        module = registry.load_from(TRAINED, task)
        try:
            asked = override(asked, _of(given, "model."))
        except UserError:
            if not module.Task.sized:  # else they may fit the model that its defaults give
                raise
        facts = Facts.of(
            train,
            asked.model,
            pretrained=found is not None,
            quality=self.quality or "good",
            unlabelled=found is not None and isinstance(found.task, Pretraining),
            batch_size=_whole(given, "data.loader.batch_size"),
            epochs=_whole(given, "epochs"),
            mirror=not any(f"{path}.".startswith("data.augment.") for path in given),
            sized=module.Task.sized,
        )
        choices = module.Task.defaults(facts)
        if few := module.Task.too_few(facts, data):
            warn(few)
        if found is not None:
            preprocess = found.preprocess.for_channels(asked.model.channels).options(
                run.model.image_size, asked.model.channels
            )
            run = replace(run, data=replace(run.data, preprocess=preprocess))
            kept = _kept(found, task)
            choices = [choice for choice in choices if choice.path not in {other.path for other in kept}] + kept
        wanted = {path: value for path, value in given.items() if path.startswith("data.preprocess.tiles")}
        if (tiles := override(run, wanted).data.preprocess.tiles) is not None:
            choices = [choice for choice in choices if choice.path != "model.image_size"]
            choices.append(Choice("model.image_size", tiles.size, "a tile, pixel by pixel"))
        if given.keys() & {"monitor", "patience"}:  # who names what decides wants it to decide
            choices = [choice for choice in choices if choice.path != "release"]
        if "lora" in given:  # adapters are no whole weights, which averages are of
            choices = [choice for choice in choices if choice.path != "members"]
        chosen = effective(choices, given)
        note(f"--quality: {quality_in_words(facts, module.Task.defaults)}")
        for choice in chosen:
            note(f"{choice}")
        settings = {choice.path: choice.value for choice in chosen}
        if "model.image_size" in settings:
            settings["data.preprocess.size"] = None  # the weights' input may be of another size than their model
        return override(replace(run, task=task), settings)


def _of(given: Mapping[str, object], *parts: str) -> dict[str, object]:
    """The settings of some parts of a run."""
    return {path: value for path, value in given.items() if f"{path}.".startswith(parts)}


def _whole(given: Mapping[str, object], path: str) -> int | None:
    value = given.get(path)
    return value if isinstance(value, int) and value > 0 else None


def _opened(run: Run, weights: LazyCheckpoint | None) -> tuple[str, Source]:
    """The task, by the options, or of the weights and by the labels, and the training split."""
    import io
    from contextlib import redirect_stderr

    from vitrail import registry
    from vitrail.console import note
    from vitrail.data.source import open_source
    from vitrail.tasks import Task
    from vitrail.train.opening import task_for

    source = run.data.source
    if run.task != "auto":
        source = registry.load_from(TRAINED, run.task).Task.source(source)
    with redirect_stderr(io.StringIO()):  # the training opens the data again, and says what it finds
        splits = open_source(source)
    if run.task != "auto":
        return run.task, splits.split("train")
    own = None if weights is None else weights.task
    task = own.name if isinstance(own, Task) and splits.kind in own.takes else task_for(splits.kind)
    note(f"task: {task} (auto)")
    return task, splits.split("train")


def _kept(found: LazyCheckpoint, task: str) -> list[Choice]:
    """What fine-tuning takes from the weights for this task, and what it must not."""
    from vitrail import registry
    from vitrail.config import to_dict
    from vitrail.defaults import Choice

    module: Any = registry.load_from(TRAINED, task)
    own, settings = found.task.config, to_dict(found.task.config)
    names = {
        field.name
        for field in fields(module.Config)
        if field.name in KEPT and getattr(own, field.name, None) != field.default  # which it is anyway
    }
    names |= set(module.Task.shaping if found.task.name == task else ())
    kept = [
        Choice(f"task_options.{name}", settings[name], "as of the weights")
        for name in sorted(names)
        if settings.get(name) is not None
    ]
    if module.Task.spatial() and not found.preprocess.shows_all:
        whole = found.preprocess.showing_all()
        reason = "the whole image, since objects lie all over it; else preprocessing is as of the weights"
        kept.append(Choice("data.preprocess.resize", whole.resize, reason))
        kept.append(Choice("data.preprocess.crop_pct", whole.crop_pct, reason))
    return kept


def train(data: str | None = None, /, *, options: TrainOptions = TrainOptions()) -> int:
    """Train a model on images, evaluate it and write its report.

    The same command again continues a run that was interrupted. SIGTERM, SIGUSR1 and Ctrl-C save at the next step and
    exit with 143, 138 and 130; a user's mistake exits with 2, the loss of one of several processes with 75.

    Examples
      vitrail train photos/ --model S/16 --epochs 50
      vitrail train --recipe digits --name demo --set ema.decay=0.999
      vitrail train flowers/ --init runs/photos --image-size 384 --dry-run
      vitrail train flowers/ --init runs/photos --quality best
      vitrail train photos/ --distill runs/large --model Ti/16 --distill-token
      vitrail train scans.csv --group-column patient --folds 5 --monitor auroc --balance weights
      vitrail train photos/ --task super_resolution --scale 2
      vitrail train --resume runs/photos --epochs 80

    Args:
        data: A folder, .csv, .npz, .tar, COCO .json, YOLO .yaml or the name of a data set.
    """
    if options.folds is not None and options.fold is None and options.resume is None:
        return start_folds(data or options.data, options, options.folds)
    return start(data, options)
