"""Under which heading the help of every verb shows an option, by its name: one place, since verbs share options."""

from __future__ import annotations

from collections.abc import Iterable

NUM_MOST_USED = 10
MOST_USED = "Most used options"
OTHERS = "Other options"
"""The heading of options that no group names."""

_RANKS = """
    init model features train classifier method task quality epochs lr to top json csv annotate name recipe out resume
    split image-size batch-size levels budget merge class layer engine host port device labels limit
    precision dry-run set unlabelled channels
"""  # the best-ranked of a verb's options come first in its help

GROUPS = {
    "Data": """
        data split limit kind unlabelled allow-empty-class labelled no-labels channels on-bad labels calibration images
        encoding value-range page normalize download val-fraction group-column time-column exclude balance folds fold
        subgroups train resize
    """,
    "Model": """
        init model features classifier task pool image-size patch-size merge exact allow-pickle names draft-names
    """,
    "Training": """
        recipe config resume scale epochs batch-size lr augment freeze lora patience monitor quality seed distill
        distill-kind distill-token trials search steps dry-run set
    """,
    "Method": """
        method levels layer head class classes budget weights-only memory seeds projection pretrained tta point
        reference each tile overlap threshold seams
        count guidance sampler inpaint mask colour enlarge vary strength
    """,
    "Results": "name out json csv annotate plot pictures top report log private revision message language",
    "Compute": "device precision engine workers processes restarts seconds",
    "Server": "host port token-file allow-host allow-origin batch-wait drain",
    "Limits": """
        queue max-body max-pixels max-images max-restored max-json-values max-header max-connections header-seconds
        body-seconds min-rate decode-seconds model-seconds
    """,
    "Help": "help version",
}
_HEADINGS = {name: heading for heading, names in GROUPS.items() for name in names.split()}


def grouped(options: Iterable[str]) -> dict[str, list[str]]:
    """Option names (without hyphens) by heading, each once: the most used first, then the groups in their order.

    Where a verb has few options, they are one group.
    """
    options = list(options)
    if len(options) <= NUM_MOST_USED:
        return {"Options": options} if options else {}
    ranked = [name for name in _RANKS.split() if name in options][:NUM_MOST_USED]
    found: dict[str, list[str]] = {MOST_USED: ranked}
    for heading in (*GROUPS, OTHERS):
        rest = [name for name in options if name not in ranked and _HEADINGS.get(name, OTHERS) == heading]
        if rest:
            found[heading] = rest
    return found
