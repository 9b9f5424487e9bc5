"""Does everything that names the version name the one of this tag, and are the addresses real?

python publishing/check_release.py v0.1.0            # exit code 0: a release can be made
python publishing/check_release.py v0.1.0 --notes    # prints the change log of that version
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def versions(root: Path = ROOT) -> dict[str, str]:
    """File → the version that it names: of the change log the newest release."""
    read = {name: (root / name).read_text(encoding="utf-8") for name in ("CHANGELOG.md", "CITATION.cff")}
    source = (root / "vitrail/version.py").read_text(encoding="utf-8")
    released = re.findall(r"^## \[(\d[^\]]*)\]", read["CHANGELOG.md"], re.MULTILINE)
    return {
        "pyproject.toml": tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"],
        "vitrail/version.py": re.findall(r'__version__ = "(.+)"', source)[0],
        "CITATION.cff": re.findall(r"^version: (.+)$", read["CITATION.cff"], re.MULTILINE)[0],
        "CHANGELOG.md": released[0] if released else "none",
    }


def notes(version: str, root: Path = ROOT) -> str:
    """The change log's section of a version, without its heading."""
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    found = re.search(rf"^## \[{re.escape(version)}\].*?\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if found is None:
        sys.exit(f"CHANGELOG.md has no section [{version}]")
    return found[1].strip() + "\n"


def faults(tag: str, root: Path = ROOT) -> list[str]:
    """Why ``tag`` cannot be released."""
    wanted = tag.removeprefix("v")
    found = [f"{name} has the version {version}" for name, version in versions(root).items() if version != wanted]
    addresses = tomllib.loads((root / "publishing/addresses.toml").read_text(encoding="utf-8"))
    placeholders = [name for name, value in addresses.items() if "example.org" in value]
    if placeholders:
        found.append(f"publishing/addresses.toml has placeholders for {', '.join(placeholders)}")
    return found


if __name__ == "__main__":
    if "--notes" in sys.argv:
        print(notes(sys.argv[1].removeprefix("v")), end="")
    elif found := faults(sys.argv[1]):
        sys.exit(f"{sys.argv[1]} cannot be released: {'; '.join(found)}")
