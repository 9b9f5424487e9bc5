"""One engine a file, by its name: ``FORMAT``, an :class:`vitrail.int8.Int8Format`."""
