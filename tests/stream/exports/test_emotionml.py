"""EmotionML against what the Recommendation demands of a document, as far as it concerns what is written.

W3C's own schema is not kept here, so that these checks do not run it: they are the Recommendation's rules again.
"""

from __future__ import annotations

from datetime import datetime

import pytest

from stream.exports import export
from stream.exports.text import plain
from tests.support.conversations import EMOTIONS, NASTY, conversation, emotion, heard, started
from tests.support.export_readers import EMO, OURS, read


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


def test_arousal_is_a_dimension_where_it_is_known() -> None:
    anna, ben = heard(0, "Anna", 0, 1, "Hi"), heard(1, "Ben", 2, 3, "Hm")
    voice = {"arousal": -0.5, "expression": None, "sounds": []}
    root = read(export([started(), anna, emotion(anna, 1, 0, 0, voice=voice), emotion(ben, 1, 0, 0)], "emotionml"))
    told = {one.get("id"): one.find(f"{EMO}dimension") for one in root.iter(f"{EMO}emotion")}
    assert told["u0"].get("name") == "arousal" and float(told["u0"].get("value")) == 0.25 and told["u1"] is None
    assert root.get("dimension-set") == "#dimensions"
    assert read(export(conversation(), "emotionml")).get("dimension-set") is None
