"""One method a file: ``TAKES``, ``Options`` and ``measure(sets, options, seed) -> Outcome``."""
