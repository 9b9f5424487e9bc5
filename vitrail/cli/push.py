"""A model onto the Hugging Face hub."""

from __future__ import annotations

from vitrail.terminal.next_command import IMAGE, name_next
from vitrail.terminal.options import AllowPickle, Names, Weights

GROUP = "Exchange weights"


def push(
    run: Weights,
    repo: str,
    /,
    *,
    private: bool = False,
    revision: str | None = None,
    message: str | None = None,
    allow_pickle: AllowPickle = False,
    names: Names = None,
) -> None:
    """Upload a model to the Hugging Face hub.

    In the format of transformers where that library supports the model, else in Vitrail's; either way
    hf://owner/name opens it again. Needs pip install 'vitrail[hub]' and HF_TOKEN, or hf auth login.

    Examples
      vitrail push runs/birds me/birds --private

    Args:
        repo: owner/name; created if it does not exist.
        private: Create it as a private repository.
        revision: A branch; created if it does not exist.
        message: The commit message.
    """
    import shutil
    import tempfile
    from pathlib import Path

    from vitrail import conversion
    from vitrail.checkpoints import hub
    from vitrail.console import note

    reason = conversion.inspect(run, allow_pickle=allow_pickle, names=names)["writes_as"].get(
        "huggingface", "its task has no counterpart there"
    )
    fits = " " not in reason  # the dialect's name, else why there is none
    note(f"format: {reason}" if fits else f"format: native ({reason})")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model"
        conversion.convert(run, out, to=reason if fits else "native", allow_pickle=allow_pickle, names=names)
        if (card := Path(run) / "model_card.md").is_file():
            shutil.copy(card, out / "README.md")
        print(hub.push(out, repo, private=private, revision=revision, message=message))
    name_next("predict", f"hf://{repo}", IMAGE)
