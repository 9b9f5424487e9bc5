"""Which split a name means: by its words, as in ``seg_train``, ``Training_set``, ``val2017`` or ``测试集``."""

from __future__ import annotations

import re
from collections.abc import Iterable

SPLITS = ("train", "val", "test")
SPLIT_NAMES = {  # words that mean a split, in lower case
    "train": ("train", "training", "trainset", "trainval", "trn", "xtrain", "ytrain", "训练", "训练集"),
    "val": (
        *("val", "valid", "validation", "validate", "valset", "validset", "xval", "yval", "验证", "验证集"),
        *("dev", "devel", "development", "devset", "eval", "evaluation"),
    ),
    "test": ("test", "testing", "testset", "tst", "holdout", "xtest", "ytest", "测试", "测试集"),
}
_SPLIT_OF = {word: split for split, names in SPLIT_NAMES.items() for word in names}
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[^\W\d_a-zA-Z]+")
_GENERIC = frozenset(
    (
        *("set", "sets", "split", "data", "dataset", "image", "images", "img", "imgs", "photo", "photos", "picture"),
        *("pictures", "pic", "pics", "file", "files", "folder", "dir", "directory", "seg", "cls", "jpg", "jpeg", "png"),
        *("tif", "raw", "full", "final", "original", "small", "part", "new", "my", "x", "the", "of", "for", "and"),
    )
)  # words beside that of a split that say nothing else


def words(name: str) -> list[str]:
    """The words of a name in lower case; capitals, digits and marks divide them."""
    return [word.lower() for word in _WORD.findall(name)]


def split_called(name: str) -> str | None:
    """The split that ``name`` means by one of its words, as "val" by "Validation_set"; None for no or several splits.

    ``train_val`` is of train, as VOC's ``trainval``, and ``test-dev`` of test.
    """
    found = {_SPLIT_OF[word] for word in words(name) if word in _SPLIT_OF}
    if len(found) == 2:  # train_val and test-dev
        return {("train", "val"): "train", ("test", "val"): "test"}.get((min(found), max(found)))
    return found.pop() if len(found) == 1 else None


def is_split_word(name: str) -> str | None:
    """The split whose very word a name is, in any case: for folders around the data, which can have any name."""
    return _SPLIT_OF.get(name.lower())


def is_plainly(name: str) -> bool:
    """Whether a name says which split it is and nothing else: ``seg_train``, ``test_set``; not ``bullet_train``."""
    return split_called(name) is not None and all(word in _SPLIT_OF or word in _GENERIC for word in words(name))


def telling(name: str) -> list[str]:
    """The words of a name that say more than that pictures of a split lie there."""
    return [word for word in words(name) if word not in _GENERIC]


def affix(name: str) -> str:
    """What is left of a name without the word of its split: ``seg_`` of ``seg_train``; digits count as one."""
    rest = _WORD.sub(lambda match: "" if match[0].lower() in _SPLIT_OF else match[0].lower(), name)
    return re.sub(r"\d+", "0", rest)


def alike(names: Iterable[str]) -> bool:
    """Whether names of splits belong to each other: each is plain, or all are the same but for the split's word."""
    names = list(names)
    return all(map(is_plainly, names)) or len(set(map(affix, names))) == 1
