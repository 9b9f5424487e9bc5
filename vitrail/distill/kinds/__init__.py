"""One distillation loss a file; the contract is in ``vitrail/distill/__init__.py``."""
