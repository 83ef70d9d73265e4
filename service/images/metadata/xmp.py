"""Xmp: the packet that says, in every file, that the picture was generated.

The property and its value are IPTC's: Photo Metadata Standard 2025.1 and the NewsCodes.
"""

from __future__ import annotations

import re
from xml.sax.saxutils import quoteattr

from service.images.metadata.parts import Part, first_parts, is_webp, without

TOOL = "dit-service"
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""Made by a model that was trained on examples."""

PNG_KEYWORD = b"XML:com.adobe.xmp"
JPEG_HEADER = b"http://ns.adobe.com/xap/1.0/\0"
WEBP_FLAGS, WEBP_FLAG = 20, 0x04
"""The byte of a WebP in which this bit says that there is a packet."""

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

# Read-only ("r") and so without padding: checksums and lengths forbid a change in place anyway.
_PACKET = """\
<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\
<x:xmpmeta xmlns:x="adobe:ns:meta/">\
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\
<rdf:Description rdf:about=""\
 xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"\
 xmlns:xmp="http://ns.adobe.com/xap/1.0/"\
 Iptc4xmpExt:DigitalSourceType="{source_type}"\
 Iptc4xmpExt:AISystemUsed={model}\
 xmp:CreatorTool={tool}/>\
</rdf:RDF></x:xmpmeta><?xpacket end="r"?>"""


def xmp_packet(model: str, version: str) -> bytes:
    """The packet in UTF-8, about 550 bytes. It depends on nothing else, so that bytes repeat."""
    text = _PACKET.format(
        source_type=SOURCE_TYPE, model=_attribute(model), tool=_attribute(f"{TOOL} {version}")
    )
    return text.encode()


def without_xmp(file: bytes) -> tuple[bytes, bytes | None]:
    """A WebP or JPEG without its packet, and the packet; the same file and None if it has none."""
    for part in first_parts(file):
        packet = _packet(file, part) if part.whole else None
        if packet is not None:
            return _unflagged(without(file, part)), packet
    return file, None


def _packet(file: bytes, part: Part) -> bytes | None:
    if is_webp(file):
        flagged = len(file) > WEBP_FLAGS and file[WEBP_FLAGS] & WEBP_FLAG
        return part.content if part.kind == b"XMP " and flagged else None
    if part.kind == b"\xe1" and part.content.startswith(JPEG_HEADER):
        return part.content.removeprefix(JPEG_HEADER)
    return None


def _unflagged(file: bytes) -> bytes:
    if not is_webp(file):
        return file
    flags = file[WEBP_FLAGS] & ~WEBP_FLAG
    return file[:WEBP_FLAGS] + bytes([flags]) + file[WEBP_FLAGS + 1 :]


def _attribute(text: str) -> str:
    """In quotes and escaped; XML has no way to write a control character."""
    return quoteattr(_NOT_XML.sub("\ufffd", text))
