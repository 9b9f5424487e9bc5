"""Weights of other libraries, one way of naming them a file. :mod:`vitrail.checkpoints.foreign` has the contract."""
