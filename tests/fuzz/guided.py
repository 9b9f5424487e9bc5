"""Bytes of images that coverage chooses: ``python -m tests.fuzz --atheris``, where atheris is installed."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path


def run(minutes: float) -> None:
    """Begin with sound images of every format; never returns. What fails is written to ``crash-…`` where one is, and
    ends the process with another code than 0."""
    import atheris  # type: ignore[import-not-found]

    with atheris.instrument_imports(include=["vitrail", "PIL"]):
        from vitrail.data.media.decode import decode
        from vitrail.data.media.read import read_size
        from vitrail.errors import UserError

    from targets import named

    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        for place, files in enumerate(named("images").bases):
            for data in files.values():
                (corpus / str(place)).write_bytes(data)
        file = Path(folder) / "image"

        def once(data: bytes) -> None:
            for use in (lambda: decode(data, warn=lambda text: None), lambda: read_size(file)):
                file.write_bytes(data)
                try:
                    use()
                except UserError as error:
                    if "\n" in str(error):
                        raise RuntimeError("an error of several lines") from None

        limits = [f"-max_total_time={int(60 * minutes)}", "-timeout=10", "-rss_limit_mb=2000", "-max_len=20000"]
        atheris.Setup([sys.argv[0], *limits, str(corpus)], once)
        atheris.Fuzz()
