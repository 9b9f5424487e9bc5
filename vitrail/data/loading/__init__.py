"""From samples to batches: which, in which order, assembled by worker processes."""
