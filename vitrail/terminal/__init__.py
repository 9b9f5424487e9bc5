"""What the verbs of :mod:`vitrail.cli` share: options, input files, and the steps from options to a training."""
