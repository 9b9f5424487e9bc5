"""open_clip's image towers from timm (``visual.trunk``), such as its SigLIPs and EVAs of timm's VisionTransformer
(https://github.com/mlfoundations/open_clip); the text tower is left out. They are read only.

The projection into the space of images and texts is the trunk's own head, a linear layer or an MLP beside it, or none.
``open_clip_config.json`` says which model of timm it is; without it, timm's usual for such shapes is taken.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from vitrail.checkpoints import pooled, tensors_only
from vitrail.checkpoints.beside import Beside
from vitrail.checkpoints.description import Description
from vitrail.checkpoints.dialects import openai_clip, timm
from vitrail.checkpoints.rules import Rule, layer, under
from vitrail.checkpoints.shapes import Shapes
from vitrail.tasks import features

LIBRARY = "openai"
TASKS = pooled.TASKS
FILE = openai_clip.FILE
TRUNK, LINEAR, MLP = "visual.trunk.", "visual.head.proj", "visual.head.mlp"
IGNORED = (*openai_clip.IGNORED, *(TRUNK + pattern for pattern in timm.IGNORED))


def canonical(name: str) -> str:
    """With timm's canonical names in the trunk."""
    return TRUNK + timm.canonical(name.removeprefix(TRUNK)) if name.startswith(TRUNK) else name


def matches(names: Collection[str], beside: Beside) -> bool:
    """By the trunk's first block."""
    return timm.matches({name.removeprefix(TRUNK) for name in names if name.startswith(TRUNK)}, Beside())


def describe(shapes: Shapes, beside: Beside) -> Description:
    """The trunk as timm describes it, with the projection of open_clip.

    Raises:
        UserError: a trunk that Vitrail does not compute.
    """
    tower = (beside.config.get("model_cfg") or {}).get("vision_cfg") or {}
    trunk = {name.removeprefix(TRUNK): shape for name, shape in shapes.items() if name.startswith(TRUNK)}
    found = timm.describe(trunk, replace(beside, config=_timm_config(tower), classes=()))
    model = pooled.read(found)
    head = model.head
    outputs = next(
        (shapes[name][0] for name in (f"{LINEAR}.weight", f"{MLP}.fc2.weight") if name in shapes), model.outputs
    )
    if f"{MLP}.fc1.weight" in shapes:
        head = replace(head, hidden=shapes[f"{MLP}.fc1.weight"][0], activation="gelu", bias=f"{MLP}.fc2.bias" in shapes)
    elif f"{LINEAR}.weight" in shapes:
        head = replace(head, bias=f"{LINEAR}.bias" in shapes)
    config = features.Config(model=model.vit, pool=model.pool, head=head, projection=outputs)
    assumed = list(found.assumed)
    preprocess = tensors_only.preprocess(beside)
    if preprocess is None:
        preprocess, more = openai_clip.preprocess(beside.config.get("preprocess_cfg"), model.vit)
        assumed = [line for line in assumed if not line.startswith("preprocessing")] + more
    assumed = [line for line in assumed if not line.startswith("classes")]
    layout = {*(found.layout or ()), *({"in_trunk"} if "head.weight" in trunk else ())}
    return Description("features", config, preprocess, tuple(assumed), frozenset(layout))


def rules(description: Description) -> list[Rule]:
    """timm's in the trunk, and the projection wherever it is."""
    config = description.config
    assert isinstance(config, features.Config)
    trunk = under("", TRUNK, timm.rules(description))
    if config.head.hidden is not None:
        own = [*layer("head.hidden", f"{MLP}.fc1"), *layer("head.output", f"{MLP}.fc2")]
    elif "in_trunk" in (description.layout or ()):
        return trunk
    else:
        own = layer("head.output", LINEAR)
    return [*(rule for rule in trunk if not rule.ours.startswith(("head.output", "head.hidden"))), *own]


def lacks(description: Description) -> str | None:
    """Everything: it is read only."""
    return "writer"


def sidecars(description: Description) -> dict[str, Any]:
    return {}


def _timm_config(tower: dict[str, Any]) -> dict[str, Any]:
    """What timm's own ``config.json`` would say of the trunk."""
    name = tower.get("timm_model_name")
    if not isinstance(name, str):
        return {}
    args = dict(tower.get("timm_model_kwargs") or {})
    if tower.get("image_size"):
        args["img_size"] = tower["image_size"]
    if tower.get("timm_pool"):
        args["global_pool"] = tower["timm_pool"]
    return {"architecture": name, "model_args": args}
