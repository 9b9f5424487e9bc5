"""The model card in Hugging Face's format: YAML for machines, then prose, with measured numbers only.

https://huggingface.co/docs/hub/model-cards
"""

from __future__ import annotations

import html
import json
import re
from typing import TYPE_CHECKING, Any

import yaml

from vitrail.console import printable
from vitrail.report import sections
from vitrail.report.plain import plain

if TYPE_CHECKING:
    from vitrail.report.evaluated import EvaluatedModel
    from vitrail.report.run_reader import RunReader

PIPELINES = {"classification": "image-classification", "multilabel": "image-classification"}
METRIC_TYPES = {
    "top1": "accuracy",
    "f1": "f1",
    "precision": "precision",
    "recall": "recall",
    "mae": "mae",
    "rmse": "rmse",
    "r2": "r_squared",
}
MAX_CLASSES = 100
TEMPLATE = """\
---
{header}---

# {name}

{subtitle}. Made with Vitrail.

## Results

{results}

## Use

```python
import vitrail

{use}
```

## Training

{training}

The complete configuration is in `config.yaml`, the environment in `env.json`, the curves in `report.html`.

## Limits

{limits}
"""
LIMITS = """\
These numbers hold for images like those of the data above. Nothing else was measured: not other cameras, places or
groups of people, and not images of none of the {outputs}."""
OF_DRAWINGS = """\
All pictures that it draws are synthetic: no camera took them, and their files say so (IPTC's
`trainedAlgorithmicMedia`). It draws what the data above shows, with its gaps and prejudices, and can come close to
single training images; `vitrail fidelity` measures how close, and how good the pictures are, which the loss does not
tell."""


def render(run: RunReader, evaluated: EvaluatedModel | None) -> str:
    """The text of the card."""
    return TEMPLATE.format(
        header=yaml.safe_dump(_header(run, evaluated), sort_keys=False, allow_unicode=True),
        name=_escaped(run.name),
        subtitle=_escaped(sections.subtitle(run)),
        results=_results(evaluated) if evaluated else "Not evaluated.",
        training=_training(run),
        use=_use(run, json.dumps(str(run.summary.get("weights", "weights/best.safetensors"))).replace("`", "\\x60")),
        limits=OF_DRAWINGS if run.draws else LIMITS.format(outputs=run.outputs),
    )


def _use(run: RunReader, weights: str) -> str:
    """The lines that use the weights."""
    if run.draws:
        return f'vitrail.load_generator({weights}).draw(count=4, seed=0)[0].save("drawn.png")'
    method = "embed" if run.pretrained else "predict"
    return f'model = vitrail.load({weights})\nprint(model.{method}("image.jpg"))'


def _header(run: RunReader, evaluated: EvaluatedModel | None) -> dict[str, Any]:
    task = run.task
    header: dict[str, Any] = {"library_name": "vitrail", "tags": ["vitrail", "vision-transformer", task]}
    pipeline = PIPELINES.get(task)
    if pipeline:
        header["pipeline_tag"] = pipeline
    if evaluated is not None:
        metrics = [
            {"type": METRIC_TYPES.get(name, name), "name": line.label, "value": value}
            for name, line in evaluated.family.headlines.items()
            if name not in evaluated.family.left_out(evaluated.evaluation.family.names)
            and (value := plain(evaluated.evaluation.metrics[name])) is not None
        ]
        dataset = {"name": printable(evaluated.data), "type": printable(evaluated.data), "split": evaluated.split}
        result = {"task": {"type": pipeline or task}, "dataset": dataset, "metrics": metrics}
        header["model-index"] = [{"name": run.name, "results": [result]}]
    return header


def _results(evaluated: EvaluatedModel) -> str:
    count = len(evaluated.evaluation.index)
    lines = [
        f"On the {count:,} images of the {evaluated.split} split of {_code(evaluated.data)}:",
        "",
        "| measure | value |",
        "|---|---|",
        *(
            f"| {_escaped(label)} | {_escaped(value)} |"
            for label, value in evaluated.family.shown(evaluated.evaluation)
        ),
    ]
    return "\n".join(lines)


def _escaped(text: str) -> str:
    """Text of a user as Markdown that shows it and does nothing else: no HTML, no links, no lines of its own."""
    shown = html.escape(printable(text), quote=False)
    return re.sub(r"([\\`*_\[\]|~])", r"\\\1", shown)


def _code(text: str) -> str:
    """Text of a user as code in a line: between more backticks than it holds in a row."""
    shown = printable(text)
    marks = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
    pad = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{marks}{pad}{shown}{pad}{marks}"


def _training(run: RunReader) -> str:
    known, model = run.dataset, run.config["model"]
    facts = []
    if known:
        counts = ", ".join(f"{count:,} {split}" for split, count in known["counts"].items())
        names = [_escaped(str(name)) for name in known["classes"]]
        shown = ", ".join(names[:MAX_CLASSES]) + (", …" if len(names) > MAX_CLASSES else "")
        facts += [f"- images: {counts}", f"- {run.outputs}: {shown}"]
    facts.append(f"- input: {model['channels']} × {model['image_size'][0]} × {model['image_size'][1]}")
    facts += [f"- {label}: {value}" for label, value in sections.training_numbers(run)]
    if (distill := run.config.get("distill")) is not None:
        facts.append(f"- teacher: {_code(str(distill['teacher']))} ({_escaped(str(distill['kind']))})")
    facts += [f"- command: {_code(command)}" for command in run.commands[-1:]]
    return "\n".join(facts)
