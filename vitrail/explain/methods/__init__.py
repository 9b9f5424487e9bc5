"""One method a file: ``Options`` and ``explain(task, images, options, *padding) -> list[PatchMap]``."""
