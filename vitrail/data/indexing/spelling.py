"""Names that are the same to people: in any case, and with accents composed (NFC) or apart (NFD, as on macOS)."""

from __future__ import annotations

import unicodedata


def alike(name: str) -> str:
    """What names that differ by case or by the encoding of accents alone have in common."""
    return composed(composed(name).casefold())


def composed(name: str) -> str:
    """The name with composed accents, in its own case."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def other_forms(name: str) -> list[str]:
    """The name with accents encoded otherwise."""
    return [form for form in (unicodedata.normalize(each, name) for each in ("NFC", "NFD")) if form != name]
