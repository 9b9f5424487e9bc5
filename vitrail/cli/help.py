from __future__ import annotations

GROUP = "Help"


def help(*verb: str) -> None:
    """Show the help of a command.

    Examples
      vitrail help
      vitrail help train
      vitrail help data check

    Args:
        verb: A command, and of a group of commands the one in it; default: the list of all.
    """
    from vitrail.cli import show_help

    show_help(verb)
