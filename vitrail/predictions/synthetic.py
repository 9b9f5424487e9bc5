"""PNG files that say that no camera took them: IPTC's digital source type, in XMP.

Machines read this mark: https://cv.iptc.org/newscodes/digitalsourcetype/ (IPTC 2022); laws ask for one in places.
"""

from __future__ import annotations

import io
from xml.sax.saxutils import quoteattr

from PIL import Image
from PIL.PngImagePlugin import PngInfo

TRAINED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""Of pictures that a trained model drew."""
EDITED = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
"""Of pictures that a trained model drew parts of."""
_XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 xmlns:xmp="http://ns.adobe.com/xap/1.0/" Iptc4xmpExt:DigitalSourceType={source} xmp:CreatorTool={tool}/>
</rdf:RDF></x:xmpmeta>
<?xpacket end="r"?>"""


def png_of_synthetic(image: Image.Image, tool: str, source: str = TRAINED) -> bytes:
    """The bytes of a PNG file with the mark.

    Args:
        tool: what drew it.
    """
    info, buffer = PngInfo(), io.BytesIO()
    info.add_itxt("XML:com.adobe.xmp", _XMP.format(source=quoteattr(source), tool=quoteattr(tool)))
    image.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()
