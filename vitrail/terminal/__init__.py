"""What the verbs of :mod:`vitrail.cli` share: options, named pictures, and the way from options to a training."""
