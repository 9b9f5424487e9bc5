"""The HTML of a report: one file, no script, no external resources, all text escaped."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import quote

from vitrail.console import printable
from vitrail.report import style
from vitrail.report.figures.tiles import Tile, sheet
from vitrail.version import __version__

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL import Image

SMALL = 64  # pixels below which an image is enlarged with hard edges and stored without loss
LOGO = files("vitrail").joinpath("logo.svg").read_text(encoding="utf-8").strip()


@dataclass(frozen=True)
class Figures:
    """Figures by name, side by side if there is room; ``wide`` ones take a full row."""

    named: dict[str, Figure]
    wide: bool = False

    def html(self) -> str:
        """As inline SVG that follows the theme."""
        items = (f'<figure class="figure">{style.to_svg(figure, name)}</figure>' for name, figure in self.named.items())
        return f'<div class="figures{" wide" if self.wide else ""}">{"".join(items)}</div>'

    def plots(self) -> dict[str, Figure]:
        """For the folder."""
        return self.named


@dataclass(frozen=True)
class Gallery:
    """Pictures with captions; ``wide`` for strips of several pictures."""

    name: str
    heading: str
    tiles: Sequence[Tile]
    wide: bool = False

    def html(self) -> str:
        """As a grid that fits its columns to the screen."""
        grid = f'<div class="gallery{" wide" if self.wide else ""}">{"".join(map(_tile, self.tiles))}</div>'
        return f"<h3>{escape(self.heading)}</h3>{grid}"

    def plots(self) -> dict[str, Figure]:
        """As one sheet for the folder."""
        return {self.name: sheet(self.tiles, self.heading, columns=2 if self.wide else 6)}


Part: TypeAlias = str | Figures | Gallery
"""A piece of a section; text is HTML."""


@dataclass(frozen=True)
class Section:
    """A heading and its content."""

    title: str
    parts: Sequence[Part]

    @property
    def anchor(self) -> str:
        """Its fragment in URLs."""
        return self.title.lower().replace(" ", "-")

    def html(self) -> str:
        """The section for the page."""
        content = "\n".join(part if isinstance(part, str) else part.html() for part in self.parts)
        return f'<section id="{self.anchor}"><h2>{escape(self.title)}</h2>\n{content}</section>'

    def plots(self) -> Iterator[tuple[str, Figure]]:
        """Its figures for the folder, by name."""
        for part in self.parts:
            if not isinstance(part, str):
                yield from part.plots().items()


def render(title: str, subtitle: str, sections: Sequence[Section], source: str) -> str:
    """The complete page."""
    folder = files("vitrail.report")
    return Template(folder.joinpath("page.html").read_text(encoding="utf-8")).substitute(
        title=escape(title),
        subtitle=escape(subtitle),
        icon=quote(LOGO),
        logo=LOGO,
        css=folder.joinpath("page.css").read_text(encoding="utf-8"),
        links="".join(f'<a href="#{s.anchor}">{escape(s.title)}</a>' for s in sections),
        body="\n".join(section.html() for section in sections),
        version=__version__,
        source=escape(source),
    )


def escape(text: object) -> str:
    """Text as HTML."""
    return html.escape(printable(str(text)))


def paragraph(text: str) -> str:
    """Running text."""
    return f"<p>{escape(text)}</p>"


def cards(values: Iterable[tuple[str, str]]) -> str:
    """Key numbers as (label, value); the first stands out."""
    items = (
        f'<div class="card{"" if i else " main"}"><b>{escape(value)}</b><span>{escape(label)}</span></div>'
        for i, (label, value) in enumerate(values)
    )
    return f'<div class="cards">{"".join(items)}</div>'


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table that scrolls sideways on a phone; numbers are set flush right.

    Without column names, the first cell of each row is its heading.
    """
    rows = list(rows)
    numeric = [bool(rows) and all(isinstance(row[i], int | float) for row in rows) for i in range(len(columns))]
    lines = [_row(columns, ["th"] * len(columns), numeric)] if columns else []
    for row in rows:
        tags = ["td" if columns else "th"] + ["td"] * (len(row) - 1)
        lines.append(_row(row, tags, numeric or [False] * len(row)))
    return f'<div class="scroll"><table>{"".join(lines)}</table></div>'


def code(text: str) -> str:
    """Text to copy, line breaks kept."""
    return "<pre>" + "\n".join(escape(line) for line in text.splitlines()) + "</pre>"


def folded(summary: str, content: str) -> str:
    """Content that is shown when its summary is clicked."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def _row(values: Sequence[object], tags: Sequence[str], numeric: Sequence[bool]) -> str:
    cells = []
    for value, tag, number in zip(values, tags, numeric, strict=True):
        text = f"{value:.4g}" if isinstance(value, float) else value
        kind = ' class="number"' if number else ""
        cells.append(f"<{tag}{kind}>{escape(text)}</{tag}>")
    return f"<tr>{''.join(cells)}</tr>"


def _tile(tile: Tile) -> str:
    judged = {True: " right", False: " wrong", None: ""}[tile.right]
    small = ' class="small"' if max(tile.image.size) < SMALL else ""
    note = f"<small>{escape(tile.note)}</small>" if tile.note else ""
    return (
        f'<figure class="tile{judged}"><img{small} src="{data_uri(tile.image)}" alt="" loading="lazy">'
        f"<figcaption><b>{escape(tile.title)}</b>{note}</figcaption></figure>"
    )


def count(number: int) -> str:
    """A large number in three digits: ``5.73 M``."""
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= scale:
            return f"{number / scale:.3g} {unit}"
    return str(number)


def flat(value: object, joint: str = " ", prefix: str = "") -> list[tuple[str, str]]:
    """A nested mapping as rows of (name, text), the parts of a name held together by ``joint``; nothing empty."""
    if isinstance(value, dict):
        names = {key: f"{prefix}{joint}{key}" if prefix else str(key) for key in value}
        return [row for key, each in value.items() for row in flat(each, joint, names[key])]
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return [] if value in (None, "", []) else [(prefix, text)]


def data_uri(image: Image.Image) -> str:
    """The image inside the page: PNG when small or transparent, else JPEG."""
    buffer = io.BytesIO()
    if max(image.size) < SMALL or image.mode == "RGBA":
        image.save(buffer, "PNG", optimize=True)
        kind = "png"
    else:
        image.save(buffer, "JPEG", quality=86)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
