from __future__ import annotations

from pathlib import Path

import pympi
import pytest
from lxml import etree

from stream.exports import export
from stream.exports.text import plain
from tests.support.conversations import NASTY, conversation, emotion, heard, started
from tests.support.export_readers import intervals

TIERS = ["Anna", "Ben", "Ben-2", "unknown", "Anna emotion", "Ben emotion", "Ben emotion-2", "unknown emotion"]


def test_praat_reads_words_and_emotions_of_each_speaker(tmp_path: Path) -> None:
    length, tiers = intervals(export(conversation(), "textgrid"), tmp_path)
    assert length == 20 and sorted(tiers) == sorted(TIERS)
    assert tiers["Anna"][:3] == [(0, 0.5, ""), (0.5, 2, "=1+1 is two"), (2, 6, "")]
    assert tiers["Anna emotion"][1] == (0.5, 2, "joy") and tiers["Anna emotion"][3] == (6, 7, "neutral")
    assert tiers["Ben"][1] == (1.5, 4.25, plain(NASTY))
    assert tiers["Ben-2"] == [(0, 3, ""), (3, 5, "I talk over myself"), (5, 20, "")]
    assert tiers["Ben emotion-2"][1] == (3, 5, "joy?")


def test_praat_s_tiers_have_no_gaps(tmp_path: Path) -> None:
    length, tiers = intervals(export(conversation(), "textgrid"), tmp_path)
    for tier in tiers.values():
        assert [0, *(end for _, end, _ in tier)] == [*(start for start, _, _ in tier), length]


def test_elan_s_emotions_depend_on_the_words_of_their_speaker() -> None:
    root = etree.fromstring(export(conversation(), "elan"))
    assert root.tag == "ANNOTATION_DOCUMENT" and root.get("DATE") == "2026-01-02T03:04:05.250+00:00"
    children = [child.tag for child in root]
    order = ["HEADER", "TIME_ORDER", "TIER", "LINGUISTIC_TYPE", "CONSTRAINT"]
    assert children == sorted(children, key=order.index)
    types = {kind.get("LINGUISTIC_TYPE_ID"): kind for kind in root.iter("LINGUISTIC_TYPE")}
    assert types["emotion"].get("CONSTRAINTS") == "Symbolic_Association"
    assert types["emotion"].get("TIME_ALIGNABLE") == "false"
    tiers = {tier.get("TIER_ID"): tier for tier in root.iter("TIER")}
    assert sorted(tiers) == sorted(TIERS)
    slots = {slot.get("TIME_SLOT_ID"): int(slot.get("TIME_VALUE")) for slot in root.iter("TIME_SLOT")}
    ids = [note.get("ANNOTATION_ID") for note in root.iter("ALIGNABLE_ANNOTATION", "REF_ANNOTATION")]
    assert len(set(ids)) == len(ids) == 12
    words = {note.get("ANNOTATION_ID"): note for note in root.iter("ALIGNABLE_ANNOTATION")}
    assert all(slots[n.get("TIME_SLOT_REF1")] < slots[n.get("TIME_SLOT_REF2")] for n in words.values())
    for emotions in (tier for tier in tiers.values() if tier.get("LINGUISTIC_TYPE_REF") == "emotion"):
        parent = tiers[emotions.get("PARENT_REF")]
        assert parent.get("PARTICIPANT") == emotions.get("PARTICIPANT")
        for note in emotions.iter("REF_ANNOTATION"):
            assert parent in words[note.get("ANNOTATION_REF")].iterancestors("TIER")
    used = root.findtext("HEADER/PROPERTY[@NAME='lastUsedAnnotationId']")
    assert int(used) >= max(int(number.removeprefix("a")) for number in ids)


def test_elan_s_annotations_are_read_back(tmp_path: Path) -> None:
    file = tmp_path / "s.eaf"
    file.write_bytes(export(conversation(), "elan"))
    eaf = pympi.Eaf(str(file))
    said = sorted(eaf.get_annotation_data_for_tier("Ben"))
    assert said == [(1500, 4250, plain(NASTY)), (9000, 11000, "still")]
    assert [note[:3] for note in eaf.get_ref_annotation_data_for_tier("Ben emotion-2")] == [(3000, 5000, "joy?")]


@pytest.mark.parametrize("other", ["Anna emotion", "Anna-2", "Anna\n"])
def test_a_speaker_named_like_a_tier_keeps_tiers_of_their_own(tmp_path: Path, other) -> None:
    spoken = heard(0, "Anna", 0, 1, "a"), heard(1, "Anna", 0.5, 2, "b"), heard(2, other, 0, 1, "c")
    given = [started(), *spoken, *(emotion(one, 1, 0, 0) for one in spoken)]
    tiers = intervals(export(given, "textgrid"), tmp_path)[1]
    assert len(tiers) == 6
    assert sorted(text for tier in tiers.values() for _, _, text in tier if text) == ["a", "b", "c", *["neutral"] * 3]
    assert len({tier.get("TIER_ID") for tier in etree.fromstring(export(given, "elan")).iter("TIER")}) == 6


def test_an_emotion_refers_to_the_shorter_of_two_that_touch() -> None:
    spoken = heard(0, "Anna", 0, 1, "a"), heard(1, "Anna", 1, 1.001, "b")
    given = [started(), *spoken, emotion(spoken[1], 1, 0, 0)]
    root = etree.fromstring(export(given, "elan"))
    (note,) = root.iter("REF_ANNOTATION")
    (of,) = root.iterfind(f".//ALIGNABLE_ANNOTATION[@ANNOTATION_ID='{note.get('ANNOTATION_REF')}']")
    assert of.findtext("ANNOTATION_VALUE") == "b"
