"""The record inside a result: an XMP packet whose history says how the file was made, and the way back to it.

Source: XMP specification part 2 (ISO 16684-1), xmpMM:History and stEvt.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import BinaryIO
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

import numpy as np

from physrestore import __version__
from physrestore.output.tags import Tag
from physrestore.output.tiff_structure import first_directory_value

SOFTWARE = f"physrestore {__version__}"
HISTORY_ARRAY = "history"  # name of the record in an npz

_MAX_PACKET = 16 * 2**20  # bytes; a record is a few kB, and a foreign file must not fill the memory
_EVENT = "{http://ns.adobe.com/xap/1.0/sType/ResourceEvent#}"
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, production 2
_PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/"
    xmlns:stEvt="http://ns.adobe.com/xap/1.0/sType/ResourceEvent#">
   <xmpMM:History>
    <rdf:Seq>
     <rdf:li rdf:parseType="Resource">
      <stEvt:action>produced</stEvt:action>
      <stEvt:softwareAgent>{software}</stEvt:softwareAgent>
      <stEvt:parameters>{history}</stEvt:parameters>
     </rdf:li>
    </rdf:Seq>
   </xmpMM:History>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>"""


def xmp_packet(history: str) -> bytes:
    """An XMP packet with ``history`` as the parameters of one event; what XML cannot hold becomes U+FFFD."""
    return _PACKET.format(software=escape(SOFTWARE), history=escape(_NOT_IN_XML.sub("\ufffd", history))).encode()


def read_history(path: Path) -> str | None:
    """The ``history`` that physrestore wrote into a DNG, TIFF or npz; None for any other file.

    Raises:
        OSError: the file cannot be opened.
    """
    with path.open("rb") as file:
        if file.read(2) == b"PK":
            return _from_arrays(file)
        file.seek(0)
        packet = first_directory_value(file, Tag.XMP, at_most=_MAX_PACKET)
    return None if packet is None else _from_xmp(packet)


def _from_xmp(packet: bytes) -> str | None:
    # No packet of ours has a document type, and a foreign one could define entities that expand without end.
    if b"<!" in packet:
        return None
    try:
        root = ET.fromstring(packet.strip(b"\0 \n"))  # noqa: S314 - no entities, see above
    except ET.ParseError:
        return None
    for element in root.iter():
        if element.findtext(f"{_EVENT}softwareAgent", "").startswith("physrestore "):
            return element.findtext(f"{_EVENT}parameters")
    return None


def _from_arrays(file: BinaryIO) -> str | None:
    file.seek(0)
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return str(arrays[HISTORY_ARRAY]) if HISTORY_ARRAY in arrays else None
    except (zipfile.BadZipFile, ValueError, EOFError):
        return None  # another kind of archive, or a broken one
