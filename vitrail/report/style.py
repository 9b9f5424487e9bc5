"""The style of all figures: one palette, one set of defaults, PNG for the folder and theme-aware SVG for the page.

Colours are Okabe and Ito's (2008), distinguishable with any colour vision. In the SVG each of them becomes a CSS
variable of the page, so that one drawing serves the light and the dark theme.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np

from vitrail import files, fonts
from vitrail.console import printable
from vitrail.report.language import say

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")
INK, MUTED, GRID, PAPER = "#1b1f24", "#66707c", "#dfe3e8", "#ffffff"
BLUE, ORANGE, GREEN, PURPLE, AMBER, SKY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"
SERIES = (BLUE, ORANGE, GREEN, PURPLE, AMBER, SKY)
VARIABLES = {
    INK: "--ink", MUTED: "--muted", GRID: "--line", PAPER: "--paper",
    BLUE: "--blue", ORANGE: "--orange", GREEN: "--green", PURPLE: "--purple", AMBER: "--amber", SKY: "--sky",
}  # fmt: skip
ROOM = 0.03  # beside 0 and 1
NOTE = "note"  # marks the second line of a heading
WIDTH = 5.2  # inches; on the page a figure is one phone wide, two stand side by side on a desktop
DPI = 170


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Decorator: the function draws with the defaults below, whatever the caller's matplotlib settings."""

    @functools.wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Figure:
        import matplotlib as mpl

        with mpl.rc_context(_defaults()):
            return draw(*args, **kwargs)

    return wrapper


def canvas(height: float) -> tuple[Figure, Any]:  # Axes, whose stubs refuse arrays
    """A figure of the common width and its axes, without global state."""
    figure, (axes,) = stacked((height,))
    return figure, axes


def stacked(heights: Sequence[float], *, sharex: bool = False) -> tuple[Figure, list[Any]]:
    """A figure of the common width with axes of these heights below each other, without global state.

    Args:
        sharex: give all axes one scale, labelled at the lowest.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
    grid = figure.subplots(nrows=len(heights), squeeze=False, sharex=sharex, height_ratios=heights)
    return figure, list(grid[:, 0])


def title(axes: Axes, text: str, note: str = "") -> None:
    """A heading flush with the left edge of the figure, and what it means in a lighter second line."""
    axes.set_title(text + ("\n" if note else ""), loc="left", fontweight="bold")
    if note:
        line = axes.annotate(note, (0, 1), (0, 6), xycoords="axes fraction", textcoords="offset points", color=MUTED)
        line.set_gid(NOTE)
        line.set_in_layout(False)  # a long note is cut at the edge, or it would leave no room for the axes


def translated(figure: Figure) -> Figure:
    """The figure with its own texts in the language of the report, where a lower layer wrote them in English."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_text(say(text.get_text()))
    return figure


def from_0_to_1(axes: Axes, *directions: str) -> None:
    """Limits of shares along ``x``, ``y`` or both, with room for what lies at 0 and at 1."""
    for direction in directions:
        axes.set(**{f"{direction}lim": (-ROOM, 1 + ROOM)})


def short(name: str, length: int = 20) -> str:
    """A name for an axis: printable, cut in the middle when long."""
    name = printable(name)
    if len(name) <= length:
        return name
    tail = (length - 1) // 2
    return f"{name[: length - 1 - tail]}…{name[-tail:]}"


def save_png(figure: Figure, path: Path) -> None:
    """Write the figure for reading on white paper; from now on its layout is fixed."""
    with fonts.named_missing(), files.replacing(path, durable=False) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI, facecolor=PAPER, metadata={"Software": None})
    figure.set_layout_engine("none")  # finding it took most of the time, and to_svg needs the same


def described(figure: Figure) -> str:
    """What a figure shows, in words: its headings, its axes, and where its named lines begin and end."""
    parts = []
    for axes in figure.axes:
        parts += [
            (axes.get_title(loc="left") or axes.get_title()).strip(),
            *(note.get_text() for note in axes.texts if note.get_gid() == NOTE),
        ]
        if axes.get_xlabel() and axes.get_ylabel():
            parts.append(say("{y} by {x}", y=axes.get_ylabel(), x=axes.get_xlabel()))
        for line in axes.get_lines():
            name, values = str(line.get_label()), np.asarray(line.get_ydata(), dtype=float)
            if not name.startswith("_") and len(values):
                parts.append(
                    say("{name} from {first} to {last}", name=name, first=f"{values[0]:.3g}", last=f"{values[-1]:.3g}")
                )
    return "; ".join(printable(part) for part in parts if part)


def to_svg(figure: Figure, name: str) -> str:
    """The figure as inline SVG that scales to its container and takes colours and font from the page.

    Args:
        name: from which the names of its parts are made; what it shows in words, if nothing in it says so.
    """
    import html

    import matplotlib as mpl

    buffer = StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}), fonts.named_missing():
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(
        r'<svg[^>]*?viewBox="([^"]*)"[^>]*>',
        lambda match: f'<svg viewBox="{match[1]}" role="img" aria-label="{html.escape(described(figure) or name)}">',
        text,
        count=1,
    )
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"font: ((?:bold |[0-9]+ )?[0-9.]+px) [^;\"]*", r"font: \1 var(--font)", text)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    return text


@functools.cache
def _defaults() -> Any:
    from cycler import cycler

    return {
        "font.family": fonts.families(),
        "font.size": 9,
        "axes.titlesize": 10.5,
        "axes.labelsize": 9,
        "xtick.labelsize": 8.5,
        "ytick.labelsize": 8.5,
        "text.color": INK,
        "axes.titlecolor": INK,
        "axes.labelcolor": MUTED,
        "axes.edgecolor": GRID,
        "xtick.color": GRID,
        "ytick.color": GRID,
        "xtick.labelcolor": MUTED,
        "ytick.labelcolor": MUTED,
        "axes.prop_cycle": cycler(color=SERIES),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": GRID,
        "grid.linewidth": 0.6,
        "lines.linewidth": 1.8,
        "legend.frameon": False,
        "figure.facecolor": PAPER,
        "axes.facecolor": "none",
        "axes.unicode_minus": True,
        "text.parse_math": False,  # a class may be called "$5 bill"
    }
