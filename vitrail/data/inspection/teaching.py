"""What a training would make of its data, in the same words wherever they are needed."""

from __future__ import annotations

from vitrail.data.source import Source

BY_DEFAULT = (100, "task_options.max_detections")
"""What a detector finds where nothing else is set: more than COCO's measures count needs another setting."""


def cannot_teach(source: Source) -> str | None:
    """Why a training on this split would learn nothing, and what to do; None where it would not."""
    return source.target_kind.cannot_teach(source.targets, source.classes) if len(source) else None


def too_many(source: Source, capacity: tuple[int, str], split: str = "train") -> str | None:
    """That an image has more objects than a model can find, if so.

    Args:
        capacity: how many it finds, and the setting that says so.
    """
    most, (limit, setting) = source.target_kind.most(source.targets), capacity
    if most <= limit:
        return None
    return (
        f"an image of {split} has {most:,} objects and the model finds {limit:,} at most: the others are never learned "
        f"or found; --set {setting}={most}"
    )
