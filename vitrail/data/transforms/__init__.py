"""From an image to a model's tensor: the inference preprocessing, and the training augmentation that extends it."""
