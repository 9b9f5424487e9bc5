"""How int8 is written into a file: one format a file, by the engine's name."""
