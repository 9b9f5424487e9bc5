"""Recipes: each file's ``run()`` returns a :class:`~vitrail.train.run.Run`; its docstring gives the command, the cost
and the result, measured or published. ``vitrail train --recipe NAME`` starts from one, and any option changes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vitrail.registry import submodules

if not TYPE_CHECKING:  # else a mistake in a name would go unnoticed
    __getattr__ = submodules(__name__)
