"""The HTML of a report: one file, no script, no external resources, all text escaped (``templates/``)."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from vitrail.console import printable
from vitrail.report import style
from vitrail.report.figures.tiles import Tile, sheet
from vitrail.report.language import say, tag
from vitrail.version import __version__

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL import Image

SMALL = 64  # pixels below which an image is enlarged with hard edges and stored without loss
LOGO = Markup(files("vitrail").joinpath("logo.svg").read_text(encoding="utf-8").strip())


class Part(Protocol):
    """A piece of a section."""

    def html(self) -> Markup:
        """For the page."""

    def plots(self) -> dict[str, Figure]:
        """Figures for the folder, by name."""


@dataclass(frozen=True)
class Text:
    """Something of which the folder needs no figure: made by the functions below."""

    markup: Markup

    def html(self) -> Markup:
        """As it is."""
        return self.markup

    def plots(self) -> dict[str, Figure]:
        """None."""
        return {}


@dataclass(frozen=True)
class Figures:
    """Figures by name, side by side if there is room; ``wide`` ones take a full row."""

    named: dict[str, Figure]
    wide: bool = False

    def html(self) -> Markup:
        """As inline SVG that follows the theme."""
        drawings = [Markup(style.to_svg(figure, name)) for name, figure in self.named.items()]
        return _macro("figures", drawings, self.wide)

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

    def html(self) -> Markup:
        """As a grid that fits its columns to the screen."""
        return _macro("gallery", self.heading, [_tile(tile) for tile in self.tiles], self.wide)

    def plots(self) -> dict[str, Figure]:
        """As one sheet for the folder."""
        return {self.name: sheet(self.tiles, self.heading, columns=2 if self.wide else 6)}


@dataclass(frozen=True)
class Section:
    """A heading and its content. ``name`` is the English heading, from which its fragment in URLs is made."""

    name: str
    parts: Sequence[Part]

    @property
    def title(self) -> str:
        """The heading."""
        return say(self.name)

    @property
    def anchor(self) -> str:
        """Its fragment in URLs."""
        return self.name.lower().replace(" ", "-")

    def plots(self) -> Iterator[tuple[str, Figure]]:
        """Its figures for the folder, by name."""
        for part in self.parts:
            yield from part.plots().items()


def render(title: str, subtitle: str, sections: Sequence[Section], source: str) -> str:
    """The complete page, in the language of :func:`vitrail.report.language.written_in`."""
    return (
        _environment()
        .get_template("page.html")
        .render(
            title=title,
            subtitle=subtitle,
            icon=quote(LOGO),
            logo=LOGO,
            language=tag(),
            sections=sections,
            made=say("Made by vitrail {version} from the files of", version=__version__),
            source=source,
        )
    )


def paragraph(text: str) -> Text:
    """Running text."""
    return Text(_macro("paragraph", text))


def cards(values: Iterable[tuple[str, str]]) -> Text:
    """Key numbers as (label, value); the first stands out."""
    return Text(_macro("cards", list(values)))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Text:
    """A table that scrolls sideways on a phone; numbers are set flush right.

    Without column names, the first cell of each row is its heading.
    """
    rows = [list(row) for row in rows]
    width = len(rows[0]) if rows else len(columns)
    numeric = [bool(columns and rows) and all(isinstance(row[i], int | float) for row in rows) for i in range(width)]
    shown = [[f"{value:.4g}" if isinstance(value, float) else value for value in row] for row in rows]
    return Text(_macro("table", columns, shown, numeric))


def code(text: str) -> Text:
    """Text to copy, line breaks kept."""
    return Text(_macro("code", text.splitlines()))


def folded(summary: str, content: Text) -> Text:
    """Content that is shown when its summary is clicked."""
    return Text(_macro("folded", summary, content.html()))


def _macro(name: str, *values: object) -> Markup:
    """A piece of ``templates/parts.html``."""
    piece: Markup = getattr(_environment().get_template("parts.html").module, name)(*values)
    return piece


@cache
def _environment() -> Environment:
    """Escapes everything, and shows what does not print, such as a lone surrogate in a file name, legibly."""
    return Environment(
        loader=PackageLoader("vitrail.report"), autoescape=True, undefined=StrictUndefined, finalize=_printable
    )


def _printable(value: object) -> object:
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _tile(tile: Tile) -> dict[str, Any]:
    """What the template shows of a tile."""
    alt = tile.alt or ", ".join(filter(None, (tile.title, tile.note, tile.name)))
    return {
        "kind": {True: "right", False: "wrong", None: ""}[tile.right],
        "small": max(tile.image.size) < SMALL,
        "uri": data_uri(tile.image),
        "alt": alt or say("a picture"),
        "title": tile.title,
        "note": tile.note,
        "name": tile.name,
        "href": tile.href,
    }


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
