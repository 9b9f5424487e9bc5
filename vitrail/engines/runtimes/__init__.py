"""One runtime a file: ``RUNTIME``, an ``InProcess`` or a ``FileFormat`` of :mod:`vitrail.engines`."""
