"""What lies in a folder or a table: files, labels, classes, splits; found once and cached."""
