"""A model onto the Hugging Face hub."""

from __future__ import annotations

from vitrail.terminal.options import Weights

GROUP = "Exchange weights"


def push(
    run: Weights,
    repo: str,
    /,
    *,
    private: bool = False,
    revision: str | None = None,
    message: str | None = None,
) -> None:
    """Upload a model to the Hugging Face hub.

    As transformers reads it, where transformers can express the model, else as Vitrail does; either way
    hf://owner/name opens it again. Needs pip install "vitrail[hub]" and HF_TOKEN, or hf auth login.

    Examples
      vitrail push runs/birds me/birds --private

    Args:
        repo: owner/name; it is made if it is not there.
        private: Make it so that only its owner sees it.
        revision: A branch; it is made if it is not there.
        message: What the commit says.
    """
    import shutil
    import tempfile
    from pathlib import Path

    import vitrail
    from vitrail.checkpoints import hub
    from vitrail.console import note

    reason = vitrail.inspect(run)["writes_as"].get("huggingface", "its task has no counterpart there")
    fits = " " not in reason  # the dialect's name, else why there is none
    note(f"format: {reason}" if fits else f"format: native ({reason})")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model"
        vitrail.convert(run, out, to=reason if fits else "native")
        if (card := Path(run) / "model_card.md").is_file():
            shutil.copy(card, out / "README.md")
        print(hub.push(out, repo, private=private, revision=revision, message=message))
