"""Looking at a data set before training: check, stats, export."""
