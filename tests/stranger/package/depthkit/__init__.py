"""Depth from one image, with Vitrail."""
