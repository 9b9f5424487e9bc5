"""Pictures of things, whose places are known."""

from __future__ import annotations

from pathlib import Path


def draw_scenes(root: Path) -> Path:
    """Twelve small pictures of one to three things, annotated as Pascal VOC does, with masks and class maps."""
    import numpy as np
    from PIL import Image

    draw = np.random.default_rng(0)
    for folder in ("JPEGImages", "Annotations", "SegmentationClass", "SegmentationObject"):
        (root / folder).mkdir(parents=True)
    for number in range(12):
        height, width = draw.integers(24, 40, 2).tolist()
        pixels = draw.integers(0, 90, (height, width, 3), np.uint8)
        things, classes = np.zeros((2, height, width), np.uint8)
        objects = []
        for thing in range(int(draw.integers(1, 4))):
            left, top = thing * width // 3 + 1, int(draw.integers(0, height // 2))
            right, bottom = left + width // 3 - 2, top + int(draw.integers(6, height // 2))
            label = int(draw.integers(0, 3)) if number else thing
            part = (slice(top, bottom), slice(left, right))
            pixels[part], things[part], classes[part] = 120 + 60 * label, thing + 1, label + 1
            corners = zip(("xmin", "ymin", "xmax", "ymax"), (left, top, right, bottom), strict=True)
            box = "".join(f"<{name}>{value}</{name}>" for name, value in corners)
            name = ("ant", "bee", "cat")[label]
            objects.append(f"<object><name>{name}</name><difficult>0</difficult><bndbox>{box}</bndbox></object>")
        size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
        text = f"<annotation>{size}{''.join(objects)}</annotation>"
        (root / f"Annotations/{number:02}.xml").write_text(text)
        Image.fromarray(pixels).save(root / f"JPEGImages/{number:02}.png")
        Image.fromarray(things).save(root / f"SegmentationObject/{number:02}.png")
        Image.fromarray(classes).save(root / f"SegmentationClass/{number:02}.png")
    return root
