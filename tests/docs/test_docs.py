from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from blocks import blocks, normalised, shown

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
TRANSLATIONS = [page for page in PAGES if ".zh." in page.name]
LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)")
CODE = re.compile(r"^( *)(`{3,}|~{3,}).*?^\1\2\s*$|`[^`\n]*`", re.MULTILINE | re.DOTALL)


@pytest.mark.docs
@pytest.mark.timeout(600)  # a page starts up to twenty programs
@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page) and page not in TRANSLATIONS], ids=lambda page: page.stem
)
def test_page_runs(page, run_page):
    run_page(page)


@pytest.mark.parametrize("page", TRANSLATIONS, ids=lambda page: page.stem)
def test_a_translation_shows_the_code_and_pictures_of_its_page(page):
    original = page.with_name(page.name.replace(".zh.", "."))
    assert [normalised(block) for block in shown(page)] == [normalised(block) for block in shown(original)]
    assert [link for link in links(page) if link.endswith(".png")] == [
        link for link in links(original) if link.endswith(".png")
    ]


@pytest.mark.parametrize("page", [*PAGES, *sorted(ROOT.glob("*.md"))], ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    assert [link for link in links(page) if not exists(page, link)] == []


def test_the_map_names_every_page():
    named = {Path(link).name for link in links(DOCS / "index.md")}
    assert {page.name for page in PAGES} - named == {"index.md"}


def links(page: Path) -> list[str]:
    """The relative links of a page."""
    found = LINK.findall(CODE.sub("", page.read_text(encoding="utf-8")))
    return [link for link in found if not urlsplit(link).scheme]


def exists(page: Path, link: str) -> bool:
    """Whether the file is there and, in Markdown, the heading too."""
    path, _, anchor = unquote(link).partition("#")
    target = page.parent / path if path else page
    return target.exists() and (not anchor or target.suffix != ".md" or anchor in anchors(target))


def anchors(page: Path) -> set[str]:
    """What a heading is called in a link, as GitHub forms it."""
    headings = re.findall(r"^#+ +(.+?)\s*$", CODE.sub(_inline_only, page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _inline_only(match: re.Match[str]) -> str:
    return "" if match[2] else match[0]
