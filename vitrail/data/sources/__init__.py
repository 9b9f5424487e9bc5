"""One data source a file: ``matches(spec)`` tells whether a path is its kind, ``load(config)`` gives its splits."""
