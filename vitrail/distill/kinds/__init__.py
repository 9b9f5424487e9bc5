"""One way to learn from a teacher a file; the contract stands in ``vitrail/distill/__init__.py``."""
