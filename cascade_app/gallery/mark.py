"""The mark that says a picture was made by a trained model: IPTC's DigitalSourceType, as an XMP packet.

It names the kind of source and nothing of who asked or for what, so downloads without their settings keep it too.
https://www.iptc.org/std/photometadata/documentation/userguide/ ("Digital Source Type"), values of
http://cv.iptc.org/newscodes/digitalsourcetype/
"""

from __future__ import annotations

PNG_KEY = "XML:com.adobe.xmp"  # the name of an iTXt chunk that holds XMP
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
    f' Iptc4xmpExt:DigitalSourceType="{SOURCE_TYPE}"/></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
)
