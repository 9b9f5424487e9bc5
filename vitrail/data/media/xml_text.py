"""XML of annotations, with bounds: text of a known encoding, without entities, from a regular file."""

from __future__ import annotations

import codecs
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from vitrail.data.media.decode import BadImage
from vitrail.data.media.limits import ANNOTATION_BYTES
from vitrail.data.media.read import read_regular

_ENCODING = re.compile(rb"""^<\?xml[^>]*\bencoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']""")
_READ = re.compile(r"(utf-(8|16)|ascii|iso8859-|cp125|koi8|gb|big5|shift_jis|euc_)")


def read_xml(file: str | Path) -> ElementTree.Element:
    """The root of an XML file.

    Raises:
        BadImage: it cannot be read, defines entities, or is no XML; the cause, without its name.
    """
    text = _decoded(read_regular(file, most=ANNOTATION_BYTES))
    if "<!" in text.replace("<!--", ""):
        raise BadImage("defines entities or the like, which no annotation needs")
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise BadImage(f"is no XML: {error}") from None


def _decoded(data: bytes) -> str:
    """The text in the encoding that it declares, so that what is looked for in it is what is parsed."""
    declared = _ENCODING.search(data[:200])
    encoding = declared[1].decode("ascii").lower() if declared else "utf-8-sig"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif encoding in ("utf-8", "utf8"):
        encoding = "utf-8-sig"
    try:
        if not _READ.match(codecs.lookup(encoding).name):
            raise LookupError
        return data.decode(encoding)
    except (LookupError, ValueError):
        raise BadImage(f"is no text of the encoding {encoding!r}; save it as UTF-8") from None
