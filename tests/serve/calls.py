"""What tests have a reading process do; it imports this file, so nothing heavy is imported here."""

from __future__ import annotations

import os
import time

from vitrail.errors import UserError
from vitrail.serve.refusals import Refused


def add(a, b):
    return a + b


def spin():
    while True:
        pass


def rest():
    time.sleep(60)


def crash():
    os.abort()


def refuse():
    raise Refused(413, "too much", "body too large", {"A": "b"})


def complain():
    raise UserError("choose another")


def fail():
    raise KeyError("/secret")


def number():
    return os.getpid()
