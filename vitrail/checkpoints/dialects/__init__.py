"""The contract of a dialect: how one library names the tensors of its models and describes them in JSON.

A dialect is a module with the names of :class:`Dialect`: a file in this folder, or a module of another package. A
package announces its dialects as entry points, and then every command reads and writes them::

    [project.entry-points."vitrail.dialects"]
    my_dialect = "my_pkg.my_dialect"

Such a dialect is named by its module: ``vitrail convert model.safetensors out --to my_pkg.my_dialect``. A module that
is not announced can be written to in the same way, and is not tried when a file is read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol, runtime_checkable

from vitrail.checkpoints.beside import Beside
from vitrail.checkpoints.description import Description
from vitrail.checkpoints.rules import Rule
from vitrail.checkpoints.shapes import Shapes
from vitrail.files import Json


@runtime_checkable
class Dialect(Protocol):
    """A module that reads and writes the files of one family of models of one library.

    Attributes:
        LIBRARY: ``--to LIBRARY`` takes the first of its dialects that can hold the model.
        TASKS: the tasks that its files can hold, by registry name or dotted module.
        FILE: the name of the weights in a folder: ``model.safetensors`` or ``model.npz``.
        IGNORED: patterns of canonical names of tensors that are not needed.

    A module may also have ``HEAD``, the name of the final linear layer: then one that somebody put into its place under
    another name is read too, and ``--init`` does without a head that is none.
    A dialect may have ``PARTS``, the names in :mod:`vitrail.checkpoints.parts` that its models can have; a model with
    another one is not written. ``constants(description)`` are tensors by name which the library's files also hold
    and that follow from the architecture. With ``LAST = True``, ``--to LIBRARY`` takes it only where no other can hold
    the model.
    """

    LIBRARY: str
    TASKS: tuple[str, ...]
    FILE: str
    IGNORED: tuple[str, ...]

    def canonical(self, name: str) -> str:
        """One name for a tensor that versions of the library name differently."""

    def matches(self, names: Collection[str], beside: Beside) -> bool:
        """Whether a file is of this dialect. Exactly one dialect may match a file.

        Args:
            names: canonical names, without those of all blocks but the first.
        """

    def describe(self, shapes: Shapes, beside: Beside) -> Description:
        """The task and its config, from shapes and JSON alone.

        Args:
            shapes: by canonical name.

        Raises:
            UserError: a model that Vitrail does not compute.
        """

    def rules(self, description: Description) -> Sequence[Rule]:
        """How tensors correspond, both ways. ``ours`` are names in the state dict of the task, of any submodule."""

    def lacks(self, description: Description) -> str | None:
        """What of a model of one of :attr:`TASKS` the library cannot express; None: it can hold the model.

        A dialect that is only read returns ``"writer"``.
        """

    def sidecars(self, description: Description) -> Mapping[str, Json]:
        """The JSON files to write next to the weights, such as ``config.json``, by name."""
