"""What is published with the package: metadata, links, the spelling of extras, workflows, versions."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
TEXTS = {".md", ".py", ".toml", ".yml", ".yaml", ".txt", ".html", ".js", ".ipynb", ".cff", ""}
EXTRA = re.compile(r"""pip3? install[^\n]*?(?P<quote>\\?['"]?)(?P<what>\.|vitrail)\\?\[(?P<extras>[^\]\\\n]*)\\?\]""")


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"publishing_{name}", ROOT / f"publishing/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def metadata() -> ModuleType:
    return script("metadata")


@pytest.fixture(scope="module")
def check_release() -> ModuleType:
    return script("check_release")


def tracked() -> list[Path]:
    """The texts of the repository, generated and ignored files apart."""
    done = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:  # an sdist
        return [path for folder in ("vitrail", "docs") for path in (ROOT / folder).rglob("*") if path.is_file()]
    paths = [ROOT / line for line in done.stdout.splitlines()]
    return [path for path in paths if path.suffix in TEXTS and path.is_file()]


# -- addresses and links


def test_relative_links_lead_into_the_repository_and_others_stay(metadata: ModuleType) -> None:
    page = (
        "[a](docs/a.md#b) [b](#here) [c](https://example.com/x) [d](mailto:me@example.com)\n"
        "![e](./docs/e.png)\n```md\n[f](docs/f.md)\n```\n[g](LICENSE)\n"
    )
    assert metadata.absolute(page, "https://host/me/vitrail", "v1.2.3") == (
        "[a](https://host/me/vitrail/blob/v1.2.3/docs/a.md#b) [b](#here) [c](https://example.com/x) "
        "[d](mailto:me@example.com)\n![e](https://host/me/vitrail/raw/v1.2.3/docs/e.png)\n"
        "```md\n[f](docs/f.md)\n```\n[g](https://host/me/vitrail/blob/v1.2.3/LICENSE)\n"
    )


def test_every_link_of_the_packaged_readme_is_absolute_and_leads_to_a_file(metadata: ModuleType) -> None:
    fields = metadata.fields(ROOT, "1.2.3")
    repository = metadata.addresses(ROOT)["repository"]
    found = metadata.LINK.findall(metadata.FENCE.sub("", fields["readme"]["text"]))
    targets = [target for _, _, target in found if not target.startswith("#")]
    assert len(targets) > 10
    for target in targets:
        assert target.startswith("https://"), target
        if target.startswith(repository):
            kind, tag, path = target.removeprefix(f"{repository}/").split("/", 2)
            assert (kind, tag) in {("blob", "v1.2.3"), ("raw", "v1.2.3")}
            assert (ROOT / path.partition("#")[0]).exists(), path
    assert all(url.startswith(repository) for url in fields["urls"].values())
    assert {"Repository", "Documentation", "Changelog", "Issues"} <= fields["urls"].keys()


def test_addresses_are_written_in_one_file(metadata: ModuleType) -> None:
    addresses = metadata.addresses(ROOT)
    assert addresses.keys() == {"repository", "index", "contact"}
    own = ROOT / "publishing/addresses.toml"
    for path in tracked():
        text = "" if path == own else path.read_text(encoding="utf-8", errors="replace")
        assert not [address for address in addresses.values() if address in text], path


def test_the_build_asks_the_hook_for_what_depends_on_addresses() -> None:
    assert set(PROJECT["dynamic"]) == {"readme", "urls"}
    assert not {"readme", "urls"} & PROJECT.keys()
    docker = (ROOT / "docker/Dockerfile").read_text(encoding="utf-8")
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "COPY publishing publishing" in docker
    assert "!publishing" in ignored


# -- extras


def test_extras_are_spelled_one_way_and_exist() -> None:
    allowed = {ROOT / name for name in ("Makefile", "docker/Dockerfile", ".github/workflows/ci.yml")}  # the checkout
    wrong, seen = [], set()
    for path in tracked():
        if path == Path(__file__):
            continue
        for match in EXTRA.finditer(path.read_text(encoding="utf-8", errors="replace")):
            if path in allowed and match["what"] == ".":
                continue
            names = match["extras"].split(",")
            seen |= set(names)
            known = all(name in PROJECT["optional-dependencies"] or "{" in name for name in names)
            if match["what"] != "vitrail" or match["quote"] != "'" or not known:
                wrong.append(f"{path.relative_to(ROOT)}: {match[0]}")
    assert wrong == []
    assert {"serve", "int8", "hub", "{extra}"} <= seen


@pytest.mark.parametrize(
    "text",
    ['pip install "vitrail[hub]"', "pip install vitrail[hub]", "pip install '.[hub]'", "pip install -U 'vitrail[x]'"],
)
def test_another_spelling_would_be_found(text: str) -> None:
    match = EXTRA.search(text)
    assert match is not None
    assert (match["what"], match["quote"], match["extras"]) != ("vitrail", "'", "hub")


# -- versions


def test_the_version_is_written_alike_and_can_be_released_once_addresses_are_real(
    check_release: ModuleType, tmp_path: Path
) -> None:
    versions = check_release.versions()
    assert len({versions[name] for name in ("pyproject.toml", "vitrail/version.py", "CITATION.cff")}) == 1
    for name in (*versions, "publishing/addresses.toml"):
        copy = tmp_path / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    version = versions["pyproject.toml"]
    log = re.sub(
        r"^## \[[^\]]+\]", f"## [{version}]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), count=1, flags=re.M
    )
    (tmp_path / "CHANGELOG.md").write_text(log, encoding="utf-8")
    assert [fault for fault in check_release.faults(f"v{version}", tmp_path) if "placeholder" not in fault] == []
    (tmp_path / "publishing/addresses.toml").write_text('repository = "https://host/me/vitrail"\n', encoding="utf-8")
    assert check_release.faults(f"v{version}", tmp_path) == []
    assert len(check_release.faults("v9.9.9", tmp_path)) == 4
    assert "### Added" in check_release.notes(version, tmp_path)


def test_placeholders_are_not_released(check_release: ModuleType) -> None:
    assert "example.org" in (ROOT / "publishing/addresses.toml").read_text(encoding="utf-8")
    assert any("placeholders for repository, index, contact" in fault for fault in check_release.faults("v0.1.0"))


def test_the_change_log_keeps_its_form() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert sections[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", section) for section in sections[1:])
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security", "Known limitations"}
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= kinds


def test_the_citation_says_what_the_format_requires() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["license"] == PROJECT["license"]
    assert all("name" in author or "family-names" in author for author in citation["authors"])


# -- workflows and classifiers


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_run_what_is_there(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {"name", True, "jobs", "permissions"} <= workflow.keys()  # YAML reads `on` as true
    for name, job in workflow["jobs"].items():
        assert job["timeout-minutes"] <= 90, name
        assert (
            set([job["needs"]] if isinstance(job.get("needs"), str) else job.get("needs", ()))
            <= workflow["jobs"].keys()
        )
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step), step
            command = step.get("run", "")
            for target in re.findall(r"\bmake (\S+)", command):
                wanted = job["strategy"]["matrix"]["target"] if target == "${{" else [target]
                assert set(wanted) <= targets
            for file in re.findall(r"(?:publishing|tests)/\S+", command):
                assert (ROOT / file.rstrip("'\",)")).exists(), file


def test_each_python_is_named_and_tested() -> None:
    named = re.findall(r"Python :: (3\.\d+)$", "\n".join(PROJECT["classifiers"]), re.MULTILINE)
    ci = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))["jobs"]
    assert named == ci["test"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13", "3.14"]
    assert PROJECT["requires-python"] == f">={named[0]}"
    assert {"windows-latest", "macos-latest"} <= set(ci["smoke"]["strategy"]["matrix"]["system"])
    if sys.version_info[:2] not in {tuple(map(int, each.split("."))) for each in named}:
        pytest.fail(f"this Python, {sys.version_info[:2]}, is not named")


def test_ci_runs_what_the_script_for_ci_runs() -> None:
    script = (ROOT / ".ci/run").read_text(encoding="utf-8")
    ci = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))["jobs"]
    steps = {step.get("run") for step in ci["test"]["steps"]}
    ran = {"test"} if "make test" in steps else set()
    assert ran | set(ci["docs-and-fuzz"]["strategy"]["matrix"]["target"]) == set(re.findall(r"make (\w+)", script))
