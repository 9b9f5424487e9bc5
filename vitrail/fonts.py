"""Fonts that hold the characters of a text, for Pillow and matplotlib: a class or a file may be named in any script."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from PIL import ImageFont

from vitrail.console import warn

CJK = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "Noto Sans SC", "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei", "Microsoft YaHei", "SimHei", "PingFang SC", "Hiragino Sans GB", "Heiti SC",
    "Arial Unicode MS", "Droid Sans Fallback",
)  # fmt: skip
PREFERRED = ("DejaVu Sans", *CJK)
"""DejaVu Sans comes with matplotlib and holds Greek and Cyrillic."""
BOXES = "Last Resort"  # matplotlib's own font, which draws a box for every character
NUM_FACES = 16  # of a collection (.ttc), at most

_missing: set[str] = set()  # characters that have been warned of


def families() -> list[str]:
    """The names of the preferred fonts on this machine, for matplotlib's ``font.family``: it takes each character from
    the first that has it."""
    installed = _installed()
    return [name for name in PREFERRED if name in installed]


def pillow(size: float, text: str) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """A font of this size in pixels that holds all characters of the text; Pillow's own where that does.

    Where no font on this machine does, a warning says so, once for each character.
    """
    wanted = frozenset(character for character in text if ord(character) > 0xFF)
    if not wanted:
        return ImageFont.load_default(size)
    path = _covering(wanted)
    if path is None:
        _warn(wanted)
        return ImageFont.load_default(size)
    return ImageFont.truetype(path, size, index=_face(path))


@contextmanager
def named_missing() -> Iterator[None]:
    """While matplotlib draws: its warnings of missing characters become one of ours; other warnings stay."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", message="Glyph", category=UserWarning)
        yield
    missing = set()
    for each in caught:
        if found := re.match(r"Glyph (\d+)", str(each.message)):
            missing.add(chr(int(found[1])))
        else:
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
    _warn(frozenset(missing))


def _warn(characters: frozenset[str]) -> None:
    new = characters - _missing
    _missing.update(new)
    if new:
        shown = "".join(sorted(new)[:5])
        warn(f"no font on this machine shows {shown!r}; install one, such as Noto Sans CJK (Debian: fonts-noto-cjk)")


@cache
def _installed() -> dict[str, list[str]]:
    """The files of the upright regular fonts by name."""
    from matplotlib.font_manager import fontManager

    found: dict[str, list[str]] = {}
    for entry in sorted(fontManager.ttflist, key=lambda entry: entry.fname):
        regular = entry.style == "normal" and entry.weight in (400, "normal", "regular", "book")
        if regular and not entry.name.startswith(BOXES):
            found.setdefault(entry.name, []).append(entry.fname)
    return found


@cache
def _covering(characters: frozenset[str]) -> str | None:
    """The file of a font that holds all characters, preferred ones first; None where there is none."""
    installed = _installed()
    names = families() + sorted(installed.keys() - set(PREFERRED))
    codes = {ord(character) for character in characters}
    return next((path for name in names for path in installed[name] if codes <= _codes(path)), None)


@cache
def _codes(path: str) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(path).get_charmap())


@cache
def _face(path: str) -> int:
    """The index of the face for simplified Chinese in a collection, else the first."""
    if Path(path).suffix.lower() != ".ttc":
        return 0
    for index in range(NUM_FACES):
        try:
            family, _ = ImageFont.truetype(path, 12, index=index).getname()
        except OSError:
            break
        if (family or "").endswith(" SC"):
            return index
    return 0
