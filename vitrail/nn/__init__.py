"""Building blocks. Shapes: B batch, T tokens (prefix tokens first, then h·w patches), D width, H heads."""
