from programs import _shared_programs  # noqa: F401
