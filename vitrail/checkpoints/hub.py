"""Models of the Hugging Face hub: ``hf://owner/name``, ``hf://owner/name@revision``, ``hf://owner/name/file``.

The hub's own library does the talking, so its settings hold: ``HF_TOKEN``, ``HF_HOME``, ``HF_ENDPOINT``,
``HF_HUB_OFFLINE``. Only one file of weights (or its shards) and the JSON next to it are fetched, and nothing twice.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vitrail.checkpoints.beside import FILES, WEIGHTS
from vitrail.errors import UserError, did_you_mean

# One slash too: a Path has swallowed the other. Revisions with a slash are pull requests and conversions.
ADDRESS = re.compile(
    r"hf:/{1,2}(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>refs/(?:pr|convert)/[^/]+|[^/]+))?(?:/(?P<file>[\w./-]+))?/?"
)
PLAIN, PICKLED = (".safetensors", ".npz"), (".bin", ".pt", ".pth")
INDEX = ".index.json"
SECONDS = 10.0  # of waiting for the hub to respond
CARD = """\
---
{header}---

# {name}

A Vision Transformer, made with Vitrail.

```python
import vitrail

model = vitrail.load("hf://{repo}")
print(model.predict("image.jpg"))
```
"""


@dataclass(frozen=True)
class Address:
    """A model of the hub: repository, branch, tag or commit, and file in it."""

    repo: str
    revision: str | None = None
    file: str | None = None

    def __str__(self) -> str:
        return f"hf://{self.repo}{f'@{self.revision}' if self.revision else ''}{f'/{self.file}' if self.file else ''}"


def is_address(path: str | Path) -> bool:
    """Does this name a model of the hub?"""
    return str(path).startswith("hf:/")


def parse(path: str | Path) -> Address:
    """Read an address.

    Raises:
        UserError: it is none.
    """
    found = ADDRESS.fullmatch(str(path))
    if found is None or ".." in str(path):
        raise UserError(f"{str(path)!r} names no model of the hub; write hf://owner/name or hf://owner/name@revision")
    return Address(**found.groupdict())


def fetch(path: str | Path, *, allow_pickle: bool = False) -> Path:
    """The local file of weights of a model on the hub, fetched if the hub's cache does not hold it.

    Raises:
        UserError: no such model, no access, no network, or no weights in it that may be opened.
    """
    address, hub = parse(path), _library()
    try:
        try:
            siblings = hub.HfApi().model_info(address.repo, revision=address.revision, timeout=SECONDS).siblings
        except Exception as error:
            refused = _status(error) in (401, 403, 404)  # anything else is the network's or the hub's trouble
            if refused or (found := _cached(hub, address, allow_pickle)) is None:
                raise
            return found
        listed = [sibling.rfilename for sibling in siblings]
        weights = _weights(listed, address, allow_pickle)
        at = weights.rpartition("/")[0]
        wanted = [weights, *(f"{at}/{name}".lstrip("/") for name in FILES)]
        if weights.endswith(INDEX):
            wanted += [name for name in listed if name.rpartition("/")[0] == at and name.endswith(PLAIN[0])]
        return Path(hub.snapshot_download(address.repo, revision=address.revision, allow_patterns=wanted)) / weights
    except UserError:
        raise
    except Exception as error:  # its HTTP client's errors too, whose classes change with its version
        raise _explained(error, str(address), address) from None


def cached(path: str | Path) -> Path | None:
    """The local file of weights of a model on the hub, if the hub's cache holds it; the network is not used.

    Raises:
        UserError: it is no address, or the hub's library is missing.
    """
    return _cached(_library(), parse(path), allow_pickle=False)


def push(
    source: str | Path,
    repo: str,
    *,
    private: bool = False,
    revision: str | None = None,
    message: str | None = None,
    token: str | None = None,
) -> str:
    """Upload a folder or a file; the repository is made if need be. A model card is added where there is none.

    Args:
        repo: owner/name.
        revision: a branch, which is made if need be.
        token: default: ``HF_TOKEN``, or what ``hf auth login`` stored.

    Returns:
        Its address on the web.

    Raises:
        UserError: nothing there, no access or no network.
    """
    source, address = Path(source), parse(f"hf://{repo}")
    if address.file or address.revision or not source.exists():
        raise UserError(f"cannot push {source} to {repo!r}; give what is there, and owner/name")
    hub = _library()
    options: dict[str, Any] = {"repo_id": address.repo, "revision": revision, "commit_message": message or "Add model"}
    try:
        api = hub.HfApi(token=token)
        url = str(api.create_repo(address.repo, private=private, exist_ok=True))
        if revision is not None:
            api.create_branch(address.repo, branch=revision, exist_ok=True)
        with tempfile.TemporaryDirectory() as card:
            operations = _operations(hub, source, address, Path(card))
            api.create_commit(operations=operations, **options)
        return url
    except Exception as error:
        raise _explained(error, f"hf://{repo}", address) from None


def _library() -> Any:
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        import huggingface_hub
    except ImportError:
        raise UserError("hf:// needs the hub's library; run: pip install 'vitrail[hub]'") from None
    return huggingface_hub


def _cached(hub: Any, address: Address, allow_pickle: bool) -> Path | None:
    """The weights in the cache; None if it does not hold the model."""
    options: dict[str, Any] = {"revision": address.revision, "allow_patterns": list(FILES), "local_files_only": True}
    try:
        folder = Path(hub.snapshot_download(address.repo, **options))
    except (OSError, ValueError):
        return None
    listed = [str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()]
    return folder / _weights(listed, address, allow_pickle)


def _weights(listed: Sequence[str], address: Address, allow_pickle: bool) -> str:
    """The file to open: the one named, else what a local folder's would be."""
    suffixes = (*PLAIN, *(PICKLED if allow_pickle else ()))
    if address.file is not None:
        if address.file not in listed:
            raise UserError(f"hf://{address.repo} has no file {address.file!r}; {did_you_mean(address.file, listed)}")
        if address.file.endswith(PICKLED) and not allow_pickle:
            raise _pickled(address, [address.file])
        return address.file
    found = [name for name in WEIGHTS if name in listed and name.endswith((*suffixes, INDEX))]
    found += sorted(name for name in listed if "/" not in name and name.endswith(suffixes))
    if not found:
        if pickles := [name for name in listed if name.endswith(PICKLED)]:
            raise _pickled(address, pickles)
        raise UserError(f"{address} holds no weights that Vitrail reads ({', '.join(PLAIN)}); choose another model")
    return found[0]


def _pickled(address: Address, names: list[str]) -> UserError:
    return UserError(
        f"hf://{address.repo} has {names[0]}, a pickle, which can run code when it is opened; "
        "if you trust its source, pass --allow-pickle"
    )


def _operations(hub: Any, source: Path, address: Address, temporary: Path) -> list[Any]:
    files = {"model" + source.suffix: source}
    if source.is_dir():
        files = {str(f.relative_to(source)): f for f in sorted(source.rglob("*")) if f.is_file()}
    if "README.md" not in files:
        header = {"library_name": "vitrail", "tags": ["vitrail", "vision-transformer"]}
        files["README.md"] = temporary / "README.md"
        files["README.md"].write_text(
            CARD.format(header=yaml.safe_dump(header), name=address.repo.partition("/")[2], repo=address.repo),
            encoding="utf-8",
        )
    return [hub.CommitOperationAdd(path_in_repo=name, path_or_fileobj=file) for name, file in files.items()]


def _status(error: Exception) -> int | None:
    """Of the hub's answer, if there was one."""
    found = getattr(getattr(error, "response", None), "status_code", None)
    return found if isinstance(found, int) else None


def _explained(error: Exception, what: str, address: Address) -> UserError:
    from huggingface_hub import constants, errors

    if isinstance(error, errors.GatedRepoError):
        page = f"{constants.ENDPOINT}/{address.repo}"
        return UserError(f"{what} is gated; accept its terms at {page}, then set HF_TOKEN or run: hf auth login")
    if isinstance(error, errors.RevisionNotFoundError):
        return UserError(f"hf://{address.repo} has no revision {address.revision!r}; leave it out or correct it")
    if isinstance(error, errors.RepositoryNotFoundError) or _status(error) == 401:
        return UserError(
            f"{what} is not on the hub, or private; check the name, or set HF_TOKEN to one that may see it"
        )
    if isinstance(error, errors.HFValidationError):
        return UserError(f"{what} is no name that the hub allows; write hf://owner/name")
    if _status(error) == 403:
        return UserError(f"the hub does not let you write to {what}; set HF_TOKEN to one that may")
    if (status := _status(error)) is not None:
        return UserError(f"the hub responded with {status} for {what}; try again later")
    if constants.HF_HUB_OFFLINE:
        return UserError(f"HF_HUB_OFFLINE is set, and the cache does not hold {what}; unset it")
    reason = (str(error).splitlines() or [""])[0][:200] or type(error).__name__
    return UserError(f"cannot reach the hub for {what} ({reason}); check the network and HF_ENDPOINT")
