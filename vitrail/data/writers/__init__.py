"""Formats that scenes are written in, one a file: ``write(splits, folder)``, read again by the source of that name."""
