"""EmotionML against what the Recommendation demands of a document, as far as it concerns what is written.

W3C's own schema is not kept here, so that these checks do not run it: they are the Recommendation's rules again.
"""

from __future__ import annotations

from datetime import datetime

import pytest
from lxml import etree

from stream.exports import export
from stream.exports.text import plain
from tests.stream.exports.test_exports import EMOTIONS, NASTY, conversation, emotion, heard, started

EMO, OURS = "{http://www.w3.org/2009/10/emotionml}", "{urn:undertone}"

SCHEMA = f"""
<grammar xmlns="http://relaxng.org/ns/structure/1.0" ns="{EMO[1:-1]}"
 datatypeLibrary="http://www.w3.org/2001/XMLSchema-datatypes">
<start><element name="emotionml">
 <attribute name="version" ns=""><value>1.0</value></attribute>
 <attribute name="category-set" ns=""><data type="anyURI"/></attribute>
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


def test_every_label_is_an_emotion_of_the_document_s_own_vocabulary() -> None:
    root = read(export(conversation(), "emotionml"))
    assert [item.get("name") for item in root.iter(f"{EMO}item")] == list(EMOTIONS)
    found = {one.get("id"): one for one in root.iter(f"{EMO}emotion")}
    assert sorted(found) == ["u0", "u1", "u2", "u3", "u5"]
    shares = {c.get("name"): float(c.get("value")) for c in found["u0"].iter(f"{EMO}category")}
    assert shares == {"neutral": 0.2, "joy": 0.7, "anger": 0.1}
    assert found["u0"].get("expressed-through") == "text voice"
    assert found["u2"].findtext(f"{EMO}info/{OURS}uncertain") == "true"


def test_times_are_on_the_wall_clock_and_on_the_media_clock() -> None:
    first = read(export(conversation(), "emotionml")).find(f"{EMO}emotion")
    began = datetime.fromisoformat("2026-01-02T03:04:05.250+00:00").timestamp()
    assert (int(first.get("start")), int(first.get("end"))) == (round(began * 1000) + 500, round(began * 1000) + 2000)
    assert first.findtext(f"{EMO}info/{OURS}media-start") == "0.500"


def test_speakers_and_words_are_in_info_and_a_redacted_utterance_has_no_words() -> None:
    root = read(export(conversation(), "emotionml"))
    info = {one.get("id"): one.find(f"{EMO}info") for one in root.iter(f"{EMO}emotion")}
    assert info["u1"].findtext(f"{OURS}speaker") == "Ben" and info["u1"].findtext(f"{OURS}words") == plain(NASTY)
    assert info["u3"].find(f"{OURS}words") is None


def test_labels_that_are_no_names_become_names_that_stay_apart() -> None:
    labels = ["très content", "très-content", "<&>", "²", "喜び", ""]
    anna = heard(0, "Anna", 0, 1, "Hi")
    label = emotion(anna, 1, 0, 0, emotion="<&>", probabilities=dict.fromkeys(labels, 0.1))
    root = read(export([started(emotions=labels), anna, label], "emotionml"))
    assert len(list(root.iter(f"{EMO}category"))) == 6


@pytest.mark.parametrize("used, expected", [(["visual", "audio"], "face voice"), (["brain"], None)])
def test_modalities_are_named_in_the_recommendation_s_terms(used, expected) -> None:
    anna = heard(0, "Anna", 0, 1, "Hi")
    given = [started(), anna, emotion(anna, 1, 0, 0, modalities={"used": used, "missing": []})]
    assert read(export(given, "emotionml")).find(f"{EMO}emotion").get("expressed-through") == expected
