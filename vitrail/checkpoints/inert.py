"""What trainings pickle beside their weights and is data: options, paths, NumPy's scalars, times; none is rebuilt.

Each name stands for a collection that takes whatever a pickle gives it and does nothing: no class of another library is
imported, and no function called.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

_NAMES = """
argparse Namespace
types SimpleNamespace
pathlib Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath
pathlib._local Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath
datetime datetime date time timedelta timezone
decimal Decimal
fractions Fraction
uuid UUID
collections defaultdict
builtins range slice frozenset object int float str bool dict list tuple bytes
typing Any
torch.torch_version TorchVersion
numpy dtype ndarray
numpy.core.multiarray scalar _reconstruct
numpy._core.multiarray scalar _reconstruct
numpy.core.numeric _frombuffer
numpy._core.numeric _frombuffer
pytorch_lightning.utilities.parsing AttributeDict
lightning.pytorch.utilities.parsing AttributeDict
lightning_fabric.utilities.data AttributeDict
lightning.fabric.utilities.data AttributeDict
pytorch_lightning.callbacks.model_checkpoint ModelCheckpoint
omegaconf.dictconfig DictConfig
omegaconf.listconfig ListConfig
omegaconf.base ContainerMetadata Metadata
omegaconf.nodes AnyNode StringNode IntegerNode FloatNode BooleanNode EnumNode PathNode BytesNode
easydict EasyDict
addict.addict Dict
ml_collections.config_dict.config_dict ConfigDict FrozenConfigDict FieldReference
box.box Box
munch Munch
yacs.config CfgNode
fvcore.common.config CfgNode
detectron2.config.config CfgNode
mmcv.utils.config Config ConfigDict
mmengine.config.config Config ConfigDict
mmengine.logging.history_buffer HistoryBuffer
"""
_MAPPINGS = frozenset(
    [
        "AttributeDict",
        "defaultdict",
        "EasyDict",
        "Dict",
        "Box",
        "Munch",
        "CfgNode",
        "ConfigDict",
    ]  # of pickles, filled item by item
)
_OBJECTS = frozenset({"ml_collections.config_dict.config_dict.ConfigDict"})
_LISTS = ("collections.deque",)
_DTYPES = (
    "Bool", "Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64", "Float16", "Float32", "Float64",
    "Complex64", "Complex128", "Str", "Bytes", "Object", "DateTime64", "TimeDelta64",
)  # fmt: skip


class Inert:
    """Stands for a value of any of these classes or functions."""

    def __new__(cls, *arguments: object) -> Inert:
        return object.__new__(cls)

    def __init__(self, *arguments: object) -> None:
        """Arguments are dropped."""

    def __setstate__(self, state: object) -> None:
        """A state is dropped."""


class InertMapping:
    """Stands for a mapping: torch sets items of these plain types alone."""

    def __new__(cls, *arguments: object) -> OrderedDict[Any, Any]:  # type: ignore[misc]
        return OrderedDict()


class InertList(list[Any]):
    """Stands for a list."""

    def __new__(cls, *arguments: object) -> InertList:
        return list.__new__(cls)

    def __init__(self, *arguments: object) -> None:
        super().__init__()

    def __setstate__(self, state: object) -> None:
        """A state is dropped."""


def stand_ins() -> list[Any]:
    """What ``torch.serialization.safe_globals`` takes: a class, and the name in pickles that it stands for."""
    rows = [line.split() for line in _NAMES.strip().splitlines()]
    names = [f"{module}.{name}" for module, *several in rows for name in several]
    names += [f"numpy.dtypes.{kind}DType" for kind in _DTYPES]
    mappings = {name for name in names if name.rpartition(".")[2] in _MAPPINGS} - _OBJECTS
    pairs = [(InertMapping if name in mappings else Inert, name) for name in names]
    return [*pairs, *((InertList, name) for name in _LISTS)]
