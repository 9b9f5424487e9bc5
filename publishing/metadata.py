"""What the package's metadata take from ``addresses.toml``: the project's URLs, and a README with absolute links.

Hatchling runs it (``[tool.hatch.metadata.hooks.custom]`` in pyproject.toml).
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

try:
    from hatchling.metadata.plugin.interface import MetadataHookInterface
except ImportError:  # the functions below need none
    MetadataHookInterface = object  # type: ignore[assignment, misc]

LINK = re.compile(r"(?P<image>!?)(?P<text>\[[^\]]*\])\((?P<target>[^)\s]+)\)")
FENCE = re.compile(r"^(```.*?^```$)", re.MULTILINE | re.DOTALL)


class Metadata(MetadataHookInterface):
    """``readme`` and ``urls`` of the package."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Fill in the dynamic fields."""
        metadata |= fields(Path(self.root), metadata["version"])


def fields(root: Path, version: str) -> dict[str, dict[str, str]]:
    """The two fields, of the checkout at ``root``."""
    repository = addresses(root)["repository"]
    text = absolute((root / "README.md").read_text(encoding="utf-8"), repository, f"v{version}")
    return {"readme": {"content-type": "text/markdown", "text": text}, "urls": urls(repository)}


def addresses(root: Path) -> dict[str, str]:
    """The addresses by name, as ``addresses.toml`` has them."""
    return tomllib.loads((root / "publishing/addresses.toml").read_text(encoding="utf-8"))


def urls(repository: str) -> dict[str, str]:
    """The links that an index shows beside the package."""
    blob = f"{repository}/blob/main"
    return {
        "Repository": repository,
        "Documentation": f"{blob}/docs/index.md",
        "Changelog": f"{blob}/CHANGELOG.md",
        "Issues": f"{repository}/issues",
    }


def absolute(text: str, repository: str, tag: str) -> str:
    """A page of the repository's root whose relative links lead to the files of the release ``tag``.

    Links in fenced code, to headings of the page itself and to other sites stay as they are.
    """

    def replace(link: re.Match[str]) -> str:
        target = link["target"]
        if re.match(r"[a-z]+:|#", target):
            return link[0]
        kind = "raw" if link["image"] else "blob"
        return f"{link['image']}{link['text']}({repository}/{kind}/{tag}/{target.removeprefix('./')})"

    parts = FENCE.split(text)
    return "".join(part if index % 2 else LINK.sub(replace, part) for index, part in enumerate(parts))
