"""One figure family a file: functions from arrays to a matplotlib figure, none of which knows a run or a model."""
