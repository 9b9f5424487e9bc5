"""One kind of figure a file: functions from arrays to a matplotlib figure, independent of runs and models."""
