from __future__ import annotations

from typing import Literal

GROUP = "Help"


def completion(shell: Literal["bash", "zsh", "fish", "powershell"] | None = None, /) -> None:
    """Print a script that completes verbs and options in your shell.

    Examples
      vitrail completion bash > ~/.local/share/bash-completion/completions/vitrail
      vitrail completion zsh > ~/.zfunc/_vitrail
      vitrail completion fish > ~/.config/fish/completions/vitrail.fish

    Args:
        shell: The shell; default: the one that this runs in.
    """
    from vitrail.cli import build
    from vitrail.errors import UserError

    try:
        print(build().generate_completion(shell=shell))
    except RuntimeError:  # ShellDetectionError, of a shell without completion
        raise UserError(
            "cannot tell which shell this is; write vitrail completion bash, zsh, fish or powershell"
        ) from None
