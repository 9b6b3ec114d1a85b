from __future__ import annotations

import pytest

from model.encoders.spoken_language import Belief, languages_of

SURELY, HARDLY = {"en": 0.01, "de": 0.97, "nl": 0.02}, {"en": 0.2, "cy": 0.25, "de": 0.24, "ja": 0.2}
ENGLISH = {"en": 0.98, "de": 0.01}


def after(*heard: dict[str, float]) -> list[Belief]:
    beliefs = [Belief()]
    for each in heard:
        beliefs.append(beliefs[-1].after(each, ("en",)))
    return beliefs[1:]


def test_an_utterance_that_shows_little_is_read() -> None:
    assert [belief.foreign for belief in after(HARDLY, HARDLY)] == [None, None]
    assert after({})[0] == Belief()


def test_who_speaks_another_language_is_found_out_and_named() -> None:
    assert [belief.foreign for belief in after(SURELY, HARDLY, SURELY)] == ["de", "de", "de"]
    assert [belief.foreign for belief in after(ENGLISH, ENGLISH, HARDLY)] == [None] * 3


def test_who_changes_the_language_is_followed() -> None:
    beliefs = after(*[ENGLISH] * 20, *[SURELY] * 3, *[ENGLISH] * 3)
    assert {belief.foreign for belief in beliefs[:20]} == {None}
    assert beliefs[21].foreign == "de" and beliefs[25].foreign is None
    assert all(0 < belief.known < 1 for belief in beliefs)


def test_evidence_for_several_other_languages_counts_together() -> None:
    """A recognizer that guesses another one each time has still not heard English."""
    heard = [{"en": 0.03, name: 0.4} for name in ("ja", "th", "lv", "ro")]
    assert after(*heard)[-1].foreign is not None


@pytest.mark.parametrize(
    ("lines", "foreign"),
    [
        (["Yes.", "No, thanks.", "I don't know.", "Where were you last night?"], None),
        (["Ja.", "Nein, danke.", "Das weiß ich nicht."], "de"),
        (["Oui.", "Non, merci.", "Je ne sais pas où il est."], "fr"),
        (["Oh!", "Hm.", "Ah?", "..."], None),
    ],
)
def test_texts_tell_their_language(lines: list[str], foreign: str | None) -> None:
    assert after(*map(languages_of, lines))[-1].foreign == foreign


def test_a_text_without_letters_shows_nothing() -> None:
    assert languages_of("… 123 !?") == {}
