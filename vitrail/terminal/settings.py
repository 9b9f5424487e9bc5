"""Options that change settings of a config: each names the paths of its settings in its type.

::

    @Parameter(name="*")
    @dataclass(frozen=True)
    class Options:
        epochs: Annotated[int | None, Sets("epochs")] = None
        lr: Annotated[float | None, Sets("optimizer.lr", fixed={"optimizer.base_lr": None})] = None

    override(run, changes(options))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, get_type_hints

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


class Sets:
    """``Annotated`` metadata of an option: what its value changes.

    Args:
        paths: the settings that take the value.
        fixed: settings that take these values whenever the option is given.
        resolve: for a value that decides which of ``paths`` it changes, and to what.
    """

    def __init__(
        self,
        *paths: str,
        fixed: Mapping[str, object] = MappingProxyType({}),
        resolve: Callable[[str], Mapping[str, object]] | None = None,
    ) -> None:
        self.paths = paths
        self.fixed = fixed
        self.resolve = resolve

    def changes(self, value: object) -> dict[str, object]:
        """The settings that change, by path."""
        resolved = self.resolve(str(value)) if self.resolve else dict.fromkeys(self.paths, value)
        return {**resolved, **self.fixed}


def metadata(options: type[DataclassInstance]) -> dict[str, Sets]:
    """The :class:`Sets` of each option that has one, in the order of the fields."""
    hints = get_type_hints(options, include_extras=True)
    extras = {name: getattr(hint, "__metadata__", ()) for name, hint in hints.items()}
    return {name: each for name, several in extras.items() for each in several if isinstance(each, Sets)}


def changes(options: DataclassInstance) -> dict[str, object]:
    """The settings that the given options change, by path, as :func:`vitrail.config.override` takes them.

    An option is given unless its value is None, False or empty.
    """
    found: dict[str, object] = {}
    for name, sets in metadata(type(options)).items():
        value = getattr(options, name)
        if not (value is None or value is False or value == ()):
            found |= sets.changes(value)
    return found
