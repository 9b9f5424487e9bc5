"""The model card in Hugging Face's format: YAML for machines, then prose, with measured numbers only.

https://huggingface.co/docs/hub/model-cards
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from vitrail import registry
from vitrail.console import printable
from vitrail.report import sections
from vitrail.report.plain import plain

if TYPE_CHECKING:
    from vitrail.report.measured import Measured
    from vitrail.report.record import Record

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

model = vitrail.load("{weights}")
print(model.{use}("image.jpg"))
```

## Training

{training}

The whole configuration is in `config.yaml`, the environment in `env.json`, the curves in `report.html`.

## Limits

These numbers hold for images like those of the data above. Nothing else was measured: not other cameras, places or
groups of people, and not images of none of the {outputs}.
"""


def render(record: Record, measured: Measured | None) -> str:
    """The card's text."""
    return TEMPLATE.format(
        header=yaml.safe_dump(_header(record, measured), sort_keys=False, allow_unicode=True),
        name=record.name,
        subtitle=sections.subtitle(record),
        results=_results(measured) if measured else "Not measured.",
        training=_training(record),
        weights=record.summary.get("weights", "weights/best.safetensors"),
        use="embed" if record.config["task"] in registry.names("pretrain") else "predict",
        outputs="targets" if record.dataset.get("kind") == "number" else "classes",
    )


def _header(record: Record, measured: Measured | None) -> dict[str, Any]:
    task = record.config["task"]
    header: dict[str, Any] = {"library_name": "vitrail", "tags": ["vitrail", "vision-transformer", task]}
    pipeline = PIPELINES.get(task)
    if pipeline:
        header["pipeline_tag"] = pipeline
    if measured is not None:
        metrics = [
            {"type": METRIC_TYPES.get(name, name), "name": line.label, "value": value}
            for name, line in measured.family.HEADLINES.items()
            if (value := plain(measured.evaluation.metrics[name])) is not None
        ]
        dataset = {"name": printable(measured.data), "type": printable(measured.data), "split": measured.split}
        result = {"task": {"type": pipeline or task}, "dataset": dataset, "metrics": metrics}
        header["model-index"] = [{"name": record.name, "results": [result]}]
    return header


def _results(measured: Measured) -> str:
    metrics, count = measured.evaluation.metrics, len(measured.evaluation.index)
    lines = [
        f"On the {count:,} images of the {measured.split} split of `{printable(measured.data)}`:",
        "",
        "| measure | value |",
        "|---|---|",
        *(f"| {line.label} | {line.show(metrics[name])} |" for name, line in measured.family.HEADLINES.items()),
    ]
    return "\n".join(lines)


def _training(record: Record) -> str:
    known, model = record.dataset, record.config["model"]
    facts = []
    if known:
        counts = ", ".join(f"{count:,} {split}" for split, count in known["counts"].items())
        names = [printable(name) for name in known["classes"]]
        shown = ", ".join(names[:MAX_CLASSES]) + (", …" if len(names) > MAX_CLASSES else "")
        facts += [f"- images: {counts}", f"- {'targets' if known['kind'] == 'number' else 'classes'}: {shown}"]
    facts.append(f"- input: {model['channels']} × {model['image_size'][0]} × {model['image_size'][1]}")
    facts += [f"- {label}: {value}" for label, value in sections.training_numbers(record)]
    if (distill := record.config.get("distill")) is not None:
        facts.append(f"- teacher: `{printable(distill['teacher'])}` ({distill['kind']})")
    facts += [f"- command: `{printable(command)}`" for command in record.commands[-1:]]
    return "\n".join(facts)
