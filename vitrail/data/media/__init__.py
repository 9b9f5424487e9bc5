"""From bytes to pixels: one policy for every place that reads images."""
