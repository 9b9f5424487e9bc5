"""Foreign weights, one library's way of naming them a file. The contract stands in :mod:`vitrail.checkpoints.foreign`."""
