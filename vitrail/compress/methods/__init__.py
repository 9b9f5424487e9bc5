"""One method of compression a file."""
