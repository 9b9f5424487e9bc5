"""Training from the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vitrail.cli import _training
from vitrail.cli._options import AllowPickle
from vitrail.cli._training import Options, Several, Switch

if TYPE_CHECKING:
    from vitrail.train.run import Run

TOKEN = (  # the settings of a model with a distillation token and a head for it
    "model.distillation_token=true",
    "task_options.pool=cls_distillation",
    "task_options.head={distilled: true}",
)


def train(
    data: str | None = None,
    /,
    *,
    task: str | None = None,
    distill: str | None = None,
    distill_kind: str | None = None,
    distill_token: Switch = False,
    allow_pickle: AllowPickle = False,
    freeze: Several = (),
    patience: int | None = None,
    options: Options = Options(),  # noqa: B008  frozen
) -> int:
    """Train a model on pictures, evaluate it and write its report.

    The same command again continues a run that was interrupted. SIGTERM, SIGUSR1 and Ctrl-C save at the next step and
    leave with 143, 138 and 130; a user's mistake is 2, a lost process of several 75.

    Examples
      vitrail train photos/ --model S/16 --epochs 50
      vitrail train --recipe digits --name demo --set ema.decay=0.999
      vitrail train flowers/ --init runs/photos --image-size 384 --set optimizer.backbone_lr=0.1
      vitrail train photos/ --distill runs/large --model Ti/16 --distill-token
      vitrail train --resume runs/photos --epochs 80

    Args:
        data: A folder, .csv, .npz, .tar, COCO .json, YOLO .yaml or a data set's name.
        task: classification, multilabel, regression, detection, instances or segmentation; default: what the labels
            are.
        distill: Learn from a trained model too: a run folder, a weights file, an exported file (.onnx, .xml, .pt2), any
            program of torch.export (.pt2), or my_pkg.my_module:function.
        distill_kind: hard, soft or features: its decisions, its probabilities, or what it sees; default: hard.
        distill_token: Give the model a distillation token, which learns from the teacher while the class token learns
            from the labels.
        freeze: Parameters to keep as they are: backbone, or a pattern such as vit.embed.*; can be repeated.
        patience: Stop after so many evaluations without improvement.
    """
    given = options.given(
        data=data,
        task=task,
        distill=distill,
        distill_kind=distill_kind,
        allow_pickle=allow_pickle,
        freeze=freeze,
        patience=patience,
    )
    if distill_token:
        given["overrides"] = (*TOKEN, *given.get("overrides", ()))
    return _training.start(given, _begun)


def _begun(given: dict[str, Any]) -> Run:
    """The recipe, or a start from scratch or from weights, before the options that change a setting."""
    return _training.from_recipe(given) if "recipe" in given else _plain(given)


def _plain(given: dict[str, Any]) -> Run:
    """The defaults for a data set: S/16 on lightly augmented images, or the model and preprocessing of ``--init``."""
    from vitrail.data import DataConfig, PreprocessConfig, SourceConfig, augmentation
    from vitrail.data.transforms.scene import SCENE_PRESETS
    from vitrail.presets import preset
    from vitrail.train.run import Run

    model, preprocess, options = preset("S/16"), PreprocessConfig(), {}
    if "init" in given:
        from dataclasses import fields

        from vitrail import registry
        from vitrail.build import open_checkpoint
        from vitrail.config import to_dict

        wanted = fields(registry.load("tasks", given.get("task", "classification")).Config)
        found = open_checkpoint(given["init"])
        model, preprocess = found.task.vit.config, found.preprocess
        settings = to_dict(found.task.config)
        kept = {"pool", "head"}.intersection(field.name for field in wanted)
        options = {name: settings[name] for name in sorted(kept) if settings.get(name) is not None}
    data = DataConfig(
        source=SourceConfig(spec=given["data"]),
        preprocess=preprocess,
        augment=augmentation("light"),
        scenes=SCENE_PRESETS["light"],
    )
    return Run(data=data, model=model, task_options=options)
