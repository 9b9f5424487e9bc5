"""Which program a ``.json`` of annotations is from, told by the keys at its ends."""

from __future__ import annotations

from pathlib import Path

from vitrail.data.storage.json_entries import keys_near_ends

COCO = frozenset({"images", "annotations", "categories"})
LABEL_STUDIO = frozenset({"from_name", "rectanglelabels", "polygonlabels", "brushlabels", "original_width"})
SUFFIX = ".json"


def kind_of(file: Path) -> str:
    """``coco``, ``coco_panoptic``, ``coco_results``, ``cityscapes``, ``datumaro``, ``label_studio``, ``labelme`` or
    ``via``; "" for any other content."""
    keys = keys_near_ends(file)
    if {"segments_info"} <= keys:
        return "coco_panoptic"
    if {"shapes", "imagePath"} <= keys:
        return "labelme"
    if {"imgHeight", "imgWidth", "objects"} <= keys:
        return "cityscapes"
    if keys & {"_via_settings", "_via_img_metadata", "region_attributes"} or {"regions", "filename"} <= keys:
        return "via"
    if {"items", "categories"} <= keys and "images" not in keys:
        return "datumaro"
    if len(keys & COCO) > 1:
        return "coco"
    if keys & LABEL_STUDIO or {"completions"} <= keys:
        return "label_studio"
    if {"image_id", "category_id", "score"} <= keys:
        return "coco_results"
    return ""


def files_of(kind: str, folder: Path, depth: int = 2) -> list[Path]:
    """The files of this kind in a folder and so many folders below it, sorted; none where there is no such folder."""
    found: list[Path] = []
    if not folder.is_dir():
        return found
    for level in range(depth + 1):
        pattern = "/".join(["*"] * level + [f"*{SUFFIX}"])
        found += [file for file in sorted(folder.glob(pattern)) if kind_of(file) == kind]
    return found


def files_at(kind: str, path: Path) -> list[Path]:
    """The file itself if it is of this kind, or those in a folder and in the folders in it."""
    if path.is_file():
        return [path] if path.suffix.lower() == SUFFIX and kind_of(path) == kind else []
    return files_of(kind, path, depth=1)
