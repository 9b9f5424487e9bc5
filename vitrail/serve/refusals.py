"""Refused requests: status, one line for the client, and the reason by which they are counted."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.exceptions import HTTPException

RETRY = {"Retry-After": "1"}  # seconds


class Refused(HTTPException):
    """A request that is refused. It survives pickling, so the processes that read bodies raise it too.

    Args:
        reason: a few fixed words, the label in ``vitrail_refused_total``; never text of the client's.
    """

    def __init__(self, status: int, detail: str, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, detail, headers)
        self.reason = reason

    def __reduce__(self) -> tuple[type[Refused], tuple[int, str, str, Mapping[str, str] | None]]:
        return type(self), (self.status_code, self.detail, self.reason, self.headers)


def malformed(detail: str) -> Refused:
    """400."""
    return Refused(400, detail, "malformed")


def unsupported(detail: str) -> Refused:
    """415."""
    return Refused(415, detail, "unsupported type")


def busy(detail: str, reason: str) -> Refused:
    """503; the client may try again."""
    return Refused(503, f"{detail}; try again", reason, RETRY)
