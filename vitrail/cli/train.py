"""Training from the command line."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from vitrail.terminal.options import AllowPickle
from vitrail.terminal.settings import Sets, changes
from vitrail.terminal.training import Repeated, Switch, TrainingOptions, start

if TYPE_CHECKING:
    from vitrail.train.run import Run

DISTILLATION_TOKEN = {  # a model with a distillation token, and a head for it
    "model.distillation_token": True,
    "task_options.pool": "cls_distillation",
    "task_options.head": {"distilled": True},
}
KEPT = {"pool", "head"}  # options of the task that fine-tuning takes from the weights, where the task has them


@Parameter(name="*")
@dataclass(frozen=True)
class TrainOptions(TrainingOptions):
    """Options of training on labels."""

    task: Annotated[
        str | None,
        Parameter(
            help="classification, multilabel, regression, detection, instances, segmentation "
            "or panoptic; default: by the labels."
        ),
        Sets("task"),
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
    allow_pickle: Annotated[AllowPickle, Sets("distill.allow_pickle")] = False
    freeze: Annotated[
        Repeated,
        Parameter(
            help="Parameters to keep as they are: backbone, or a pattern such as vit.embed.*; can be repeated.",
        ),
        Sets("freeze"),
    ] = ()
    patience: Annotated[
        int | None,
        Parameter(help="Stop after this many evaluations without improvement."),
        Sets("patience"),
    ] = None

    def first_run(self, data: str | None) -> Run:
        """The recipe, or a start from scratch or from ``init``."""
        return super().first_run(data) if self.recipe is not None else self._without_recipe(data)

    def _without_recipe(self, data: str | None) -> Run:
        """The defaults for a data set: S/16 on lightly augmented images, or the model and preprocessing of ``init``."""
        from vitrail.data import DataConfig, PreprocessOptions, SourceConfig, augmentation
        from vitrail.data.transforms.scene import SCENE_PRESETS
        from vitrail.train.run import Run
        from vitrail.vit_presets import preset

        assert data is not None
        run = Run(
            data=DataConfig(
                source=SourceConfig(spec=data),
                preprocess=PreprocessOptions(),
                augment=augmentation("light"),
                scenes=SCENE_PRESETS["light"],
            ),
            model=preset("S/16"),
        )
        return run if self.init is None else self._fine_tuned(run, self.init)

    def _fine_tuned(self, run: Run, weights: str) -> Run:
        """The run with architecture, preprocessing and head of ``weights``."""
        from vitrail import registry
        from vitrail.build import open_checkpoint
        from vitrail.config import to_dict
        from vitrail.console import note
        from vitrail.trainable import image_encoder

        found = open_checkpoint(weights)
        model, settings = image_encoder(found.task).config, to_dict(found.task.config)
        task = self._task(run)
        module = registry.load("tasks", task)
        kept = KEPT.intersection(field.name for field in fields(module.Config))
        preprocess = found.preprocess
        if module.Task.spatial() and not preprocess.shows_all:
            preprocess = preprocess.showing_all()
            note(f"preprocessing: as of the weights, but of the whole image, since {task} finds things all over it")
        return replace(
            run,
            model=model,
            task=task,
            data=replace(run.data, preprocess=preprocess.options(model.image_size, model.channels)),
            task_options={name: settings[name] for name in sorted(kept) if settings.get(name) is not None},
        )

    def _task(self, run: Run) -> str:
        """The task, by the options or by the labels of the data."""
        import io
        from contextlib import redirect_stderr

        from vitrail.config import override, parse_assignments
        from vitrail.data.source import open_source
        from vitrail.train.assemble import task_for

        given = changes(self) | parse_assignments(self.overrides, type(run))
        run = override(run, {path: given[path] for path in given if path == "task" or path.startswith("data.source.")})
        if run.task != "auto":
            return run.task
        with redirect_stderr(io.StringIO()):  # the training opens the data again, and says what it finds
            return task_for(open_source(run.data.source).kind)


def train(data: str | None = None, /, *, options: TrainOptions = TrainOptions()) -> int:
    """Train a model on images, evaluate it and write its report.

    The same command again continues a run that was interrupted. SIGTERM, SIGUSR1 and Ctrl-C save at the next step and
    exit with 143, 138 and 130; a user's mistake exits with 2, the loss of one of several processes with 75.

    Examples
      vitrail train photos/ --model S/16 --epochs 50
      vitrail train --recipe digits --name demo --set ema.decay=0.999
      vitrail train flowers/ --init runs/photos --image-size 384 --set optimizer.backbone_lr=0.1
      vitrail train photos/ --distill runs/large --model Ti/16 --distill-token
      vitrail train --resume runs/photos --epochs 80

    Args:
        data: A folder, .csv, .npz, .tar, COCO .json, YOLO .yaml or the name of a data set.
    """
    return start(data, options)
