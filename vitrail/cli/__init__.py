"""The command line: every ``vitrail/cli/<verb>.py`` is a verb, imported only when it is called.

A verb's module holds a typed function named like the module, or an ``app`` (a cyclopts ``App`` of that name)
for a group such as ``data check``. The first line of its docstring is the summary in ``vitrail --help``, an
optional ``GROUP = "..."`` its heading there; both are read from the source text: help imports no verb.
"""

from __future__ import annotations

import ast
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vitrail import registry
from vitrail.console import printable
from vitrail.errors import UserError
from vitrail.version import __version__

if TYPE_CHECKING:
    from cyclopts import App

HELP = "Vision Transformers from a folder of images to a trained, evaluated and explained model."
EPILOGUE = """\
Examples:
  vitrail train photos/ --model S/16      one subfolder per class
  vitrail predict runs/photos "in/*.jpg"  classify images
  vitrail VERB --help                     the options of a command"""


class Verb(NamedTuple):
    """A verb as help shows it, and the import path of its function."""

    name: str
    target: str
    summary: str
    group: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns 0, 2 for a user's mistake, 130 for Ctrl-C, or what the verb returned."""
    from cyclopts import CycloptsError

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a class name that the terminal's encoding lacks
    tokens = [_stdin_path(token) for token in (sys.argv[1:] if arguments is None else arguments)]
    try:
        result = build(tokens)(tokens, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
    except (UserError, CycloptsError) as error:
        print(f"vitrail: error: {printable(_said(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("vitrail: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has left, as in `vitrail models | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return result if isinstance(result, int) else 0


def build(tokens: Sequence[str] = ()) -> App:
    """The application with all verbs registered, none of them imported.

    Args:
        tokens: the command line; the help of the verb that it calls is that verb's own docstring.
    """
    from cyclopts import App, Parameter

    called = tokens[0] if tokens else ""
    app = App(
        name="vitrail",
        help=HELP,
        help_epilogue="" if called and not called.startswith("-") else EPILOGUE,
        help_format="plaintext",
        version=__version__,
        default_parameter=Parameter(negative=()),
        suppress_keyboard_interrupt=False,
    )
    for verb in verbs():
        summary = None if verb.name == called else verb.summary
        app.command(verb.target, name=verb.name, help=summary, group=verb.group)
    return app


def verbs() -> list[Verb]:
    """The verbs of this folder, by name."""
    return [_read(name) for name in registry.names("cli")]


def _read(name: str) -> Verb:
    tree = ast.parse((Path(__file__).parent / f"{name}.py").read_text(encoding="utf-8"))
    function = next((n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == name), None)
    document = ast.get_docstring(function or tree) or ""
    group = next(
        (n.value.value for n in tree.body
         if isinstance(n, ast.Assign) and isinstance(n.value, ast.Constant)
         and isinstance(n.targets[0], ast.Name) and n.targets[0].id == "GROUP"),
        "Commands",
    )  # fmt: skip
    target = f"vitrail.cli.{name}:{name if function else 'app'}"
    return Verb(name.replace("_", "-"), target, document.partition("\n")[0], str(group))


def _said(error: Exception) -> str:
    """On one line, also where a config that is given as options refuses a value."""
    refused = getattr(error.__cause__, "errors", None)  # pydantic's, which the parser has only wrapped
    if not callable(refused):
        return str(error)
    return "; ".join(
        f"--{each['loc'][-1]}".replace("_", "-") + f" {each['input']}: {each['msg']}" for each in refused()
    )


def _stdin_path(token: str) -> str:
    """``-`` by its long name: the parser takes a lone hyphen for an unknown option."""
    return "/dev/stdin" if token == "-" else token
