"""Exported documents, read by others' code and held against their formats' rules."""

from __future__ import annotations

from pathlib import Path

import parselmouth
from lxml import etree
from parselmouth.praat import call

EMO, OURS = "{http://www.w3.org/2009/10/emotionml}", "{urn:undertone}"


SCHEMA = f"""
<grammar xmlns="http://relaxng.org/ns/structure/1.0" ns="{EMO[1:-1]}"
 datatypeLibrary="http://www.w3.org/2001/XMLSchema-datatypes">
<start><element name="emotionml">
 <attribute name="version" ns=""><value>1.0</value></attribute>
 <attribute name="category-set" ns=""><data type="anyURI"/></attribute>
 <optional><attribute name="dimension-set" ns=""><data type="anyURI"/></attribute></optional>
 <optional><ref name="info"/></optional>
 <zeroOrMore><choice><ref name="emotion"/><ref name="vocabulary"/></choice></zeroOrMore>
</element></start>
<define name="info"><element name="info"><optional><attribute name="id" ns=""><data type="ID"/></attribute></optional>
 <zeroOrMore><choice><text/><element><anyName><except><nsName/><nsName ns=""/></except></anyName><text/></element>
 </choice></zeroOrMore></element></define>
<define name="vocabulary"><element name="vocabulary">
 <attribute name="type" ns=""><choice><value>category</value><value>dimension</value><value>appraisal</value>
  <value>action-tendency</value></choice></attribute>
 <attribute name="id" ns=""><data type="ID"/></attribute>
 <optional><ref name="info"/></optional>
 <oneOrMore><element name="item"><attribute name="name" ns=""><data type="NMTOKEN"/></attribute></element></oneOrMore>
</element></define>
<define name="emotion"><element name="emotion">
 <optional><attribute name="id" ns=""><data type="ID"/></attribute></optional>
 <optional><attribute name="start" ns=""><data type="nonNegativeInteger"/></attribute></optional>
 <optional><attribute name="end" ns=""><data type="nonNegativeInteger"/></attribute></optional>
 <optional><attribute name="expressed-through" ns=""><data type="NMTOKENS"/></attribute></optional>
 <optional><ref name="info"/></optional>
 <oneOrMore><element name="category">
  <attribute name="name" ns=""><data type="NMTOKEN"/></attribute>
  <attribute name="value" ns=""><ref name="scale"/></attribute>
  <attribute name="confidence" ns=""><ref name="scale"/></attribute>
 </element></oneOrMore>
 <zeroOrMore><element name="dimension">
  <attribute name="name" ns=""><data type="NMTOKEN"/></attribute>
  <attribute name="value" ns=""><ref name="scale"/></attribute>
 </element></zeroOrMore>
</element></define>
<define name="scale"><data type="float"><param name="minInclusive">0</param><param name="maxInclusive">1</param></data>
</define></grammar>"""


def read(content: bytes) -> etree._Element:
    """The document's root, once it keeps the Recommendation's rules."""
    root = etree.fromstring(content)
    schema = etree.RelaxNG(etree.fromstring(SCHEMA))
    assert schema.validate(root), schema.error_log
    (vocabulary,) = root.findall(f"{EMO}vocabulary[@type='category']")
    assert root.get("category-set") == "#" + vocabulary.get("id")
    items = [item.get("name") for item in vocabulary.iter(f"{EMO}item")]
    assert len(set(items)) == len(items)
    for one in root.iter(f"{EMO}emotion"):
        names = [category.get("name") for category in one.iter(f"{EMO}category")]
        assert len(set(names)) == len(names) and set(names) <= set(items)
        assert int(one.get("start")) <= int(one.get("end"))
        assert set(one.get("expressed-through", "").split()) <= {"text", "voice", "face"}
    return root


def intervals(content: bytes, folder: Path) -> tuple[float, dict[str, list[tuple[float, float, str]]]]:
    """The length and the tiers of a TextGrid as Praat reads them."""
    file = folder / "s.TextGrid"
    file.write_bytes(content)
    grid = parselmouth.read(str(file))
    tiers = {}
    for tier in range(1, int(call(grid, "Get number of tiers")) + 1):
        tiers[call(grid, "Get tier name", tier)] = [
            (
                round(call(grid, "Get start time of interval", tier, i), 3),
                round(call(grid, "Get end time of interval", tier, i), 3),
                call(grid, "Get label of interval", tier, i),
            )
            for i in range(1, int(call(grid, "Get number of intervals", tier)) + 1)
        ]
    return grid.xmax, tiers
