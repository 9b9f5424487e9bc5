"""Weights files: the native format, safetensors with everything a model needs to be used."""
