from __future__ import annotations

import re

import pytest
from lxml import html

from stream.exports import export
from stream.exports.charts import clock, trend
from stream.exports.text import plain
from tests.support.conversations import NASTY, conversation, emotion, failed, heard, started


@pytest.fixture(scope="module")
def page() -> html.HtmlElement:
    return html.document_fromstring(export(conversation(), "html").decode())


def rows(page: html.HtmlElement, table: str) -> list[list[str]]:
    """The cells of a table's body as one line of text each."""
    lines = page.get_element_by_id(table).find("tbody").iter("tr")
    return [[plain(cell.text_content()) for cell in line.iter("td")] for line in lines]


def test_the_first_page_is_the_summary(page) -> None:
    (first,) = page.iter("section")
    assert plain(page.get_element_by_id("counts").text_content()) == (
        "0:20, 7 utterances, 2 without a label, 1 uncertain."
    )
    assert rows(page, "talk") == [
        ["Anna", "", "29 % 0:03", "+0.30"], ["Ben", "", "66 % 0:07", "-0.32"], ["unknown", "", "5 % 0:00", "none"],
    ]  # fmt: skip
    assert rows(page, "emotions") == [
        ["○ neutral", "", "20 % 1"], ["▲ joy", "", "40 % 2"], ["■ anger", "", "40 % 2"],
    ]  # fmt: skip
    assert [row[3] for row in rows(page, "moments")] == ["■ anger 80 %"]
    assert rows(page, "turns") == [["0:06", "Anna", "no words kept", "▲ joy → ○ neutral -0.60"]]
    heard_with = [plain(line.text_content()) for line in page.get_element_by_id("hearing").iter("li")]
    assert heard_with == [
        "Words: faster-whisper base", "visual: missing in 100 % of the labels",
        "2 utterances without a final label", "1 notice of losses and delays",
    ]  # fmt: skip
    assert not first.xpath(".//svg") and "perceived expression" in first.text_content()
    order = [heading.text_content() for heading in page.iter("h2")]
    assert order[-4:] == ["Emotions by speaker", "What went wrong", "Utterances", "About the session"]


def test_moments_and_changes_lead_to_the_utterances_below(page) -> None:
    for link in page.xpath("//section//td/a"):
        (row,) = page.xpath(f"//table[@id='utterances']//tr[@id='{link.get('href')[1:]}']")
        assert row.find("td").text_content() == link.text_content()
    assert [link.get("href") for link in page.xpath("//section//td/a")] == ["#u1", "#u3"]


def test_a_quiet_session_says_that_nothing_stands_out() -> None:
    anna = heard(0, "Anna", 0, 1, "word " * 60)
    text = plain(export([started(encoders={}), anna, emotion(anna, 0.9, 0.1, 0)], "html").decode())
    assert "None stands out" in text and "No certain label of a speaker differs" in text
    assert "no speech recognizer" in text and "no notices of losses and delays" in text
    text = plain(export([started(), failed(0, "Anna", 0, 1, "no words")], "html").decode())
    assert "No utterance has a label." in text and "1 utterance without a final label" in text


def test_only_the_beginning_of_long_words_stands_in_the_summary() -> None:
    anna = heard(0, "Anna", 0, 9, "word " * 60)
    page = html.document_fromstring(export([started(), anna, emotion(anna, 0.1, 0.9, 0)], "html").decode())
    (quoted,) = [row[2] for row in rows(page, "moments")]
    assert quoted.endswith("word …") and len(quoted) <= 122
    assert [row[2] for row in rows(page, "utterances")] == [plain("word " * 60)]


def test_the_end_says_what_was_listened_to_with_what_and_by_whose_leave(page) -> None:
    terms = [term.text_content() for term in page.iter("dt")]
    said = dict(zip(terms, [plain(value.text_content()) for value in page.iter("dd")], strict=True))
    assert said["Length"] == "0:20" and said["Sources"] == "call.wav" and said["Consent"] == "both agreed"
    assert said["Speakers"] == "Anna, Ben, unknown; told apart by their channels"
    assert said["asr"] == "faster-whisper base" and said["visual"] == "none" and said["split"] == "2"
    assert "perceived expression" in page.text_content() and "not what anybody feels" in plain(page.text_content())


def test_the_table_has_words_emotions_and_what_is_uncertain(page) -> None:
    lines = rows(page, "utterances")
    assert lines[0] == ["0:00", "Anna", "=1+1 is two", "▲ joy 70 %"]
    assert lines[1] == ["0:02", "Ben", plain(NASTY), "■ anger 80 % not final"]
    assert lines[2][3] == "▲ joy 40 % uncertain, or neutral not final"
    assert lines[3][2] == "no words kept"
    assert lines[4] == ["0:08", "unknown", "no words kept", "no label: no words & no <sound>"]
    assert [float(meter.get("value")) for meter in page.iter("meter")] == [0.7, 0.8, 0.4, 0.9, 0.6]


def test_a_laugh_stands_beside_the_words() -> None:
    laughs = {"sound": "laughter", "start": 0.5, "end": 1.5, "probability": 0.8}
    anna = heard(0, "Anna", 0, 3, "Hi")
    label = emotion(anna, 1, 0, 0, voice={"arousal": None, "expression": None, "sounds": [laughs, laughs]})
    page = html.document_fromstring(export([started(), anna, label], "html").decode())
    assert rows(page, "utterances")[0][2] == "Hi laughter"


def test_every_speaker_has_a_drawing_and_the_same_in_words(page) -> None:
    names = [figure.findtext("h3/bdi") for figure in page.iter("figure")]
    assert names == ["Anna", "Ben", "unknown"]
    captions = [figure.findtext("figcaption") for figure in page.iter("figure")]
    assert captions[0] == "2 labels: neutral 1 (50 %), joy 1 (50 %)." and captions[2] == "No labels."
    for figure in page.iter("figure"):
        words = [text.text_content() for text in figure.iter("text")]
        assert {"neutral ○", "joy ▲", "anger ■", "positive", "negative", "time", "utterances"} <= set(words)


def test_what_went_wrong_is_told(page) -> None:
    assert [item.text_content() for item in page.xpath("//h2[@id='incidents']/following::li")] == [
        "0:08 source lost <again>"
    ]


def test_the_page_needs_nothing_else_and_runs_nothing(page) -> None:
    assert not list(page.iter("script", "link", "img", "iframe", "b"))
    addresses = [value for _, name, value, _ in page.iterlinks() if name not in ("xmlns",)]
    assert all(address.startswith("#") for address in addresses)
    ids = page.xpath("//@id")
    targets = {address[1:] for address in addresses}
    assert targets <= set(ids)


def test_the_drawing_takes_the_color_of_the_page_s_text() -> None:
    text = export(conversation(), "html").decode()
    drawings = "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    assert "currentColor" in drawings and "#000000" not in drawings.replace("clip", "")
    assert "color-scheme: light dark" in text


def test_a_session_that_goes_on_says_so_and_consent_that_was_not_stated_too() -> None:
    anna = heard(0, "Anna", 0, 1, "Hi")
    text = plain(export([started(consent=None, redacted=True), anna, emotion(anna, 1, 0, 0)], "html").decode())
    assert "0:01 so far" in text and "nothing was stated" in text and "left out" in text


def test_labels_and_names_of_any_kind_are_drawn_and_written_as_they_are() -> None:
    labels = ["<b>&amp;", "$x^{2$", "喜び", "😀"]
    anna = heard(0, NASTY, 0, 1, NASTY)
    label = emotion(anna, 1, 0, 0, emotion="$x^{2$", probabilities=dict.fromkeys(labels, 0.25))
    given = [started(emotions=labels, sources=[NASTY], checkpoint=NASTY), anna, label, failed(1, NASTY, 2, 3, NASTY)]
    page = html.document_fromstring(export(given, "html").decode())
    assert not list(page.iter("b")) and page.findtext(".//h3/bdi") == plain(NASTY)
    assert {f"{label} •" for label in labels} <= {text.text_content() for text in page.iter("text")}


def test_the_same_events_make_the_same_page() -> None:
    assert export(conversation(), "html") == export(conversation(), "html")


def test_the_trend_is_a_mean_of_the_past() -> None:
    assert trend([1, 0, 0, 0, 0, 0]) == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4, 1 / 5, 0])


@pytest.mark.parametrize("seconds, shown", [(0, "0:00"), (59.6, "1:00"), (3599.4, "59:59"), (3661, "1:01:01")])
def test_clocks(seconds, shown) -> None:
    assert clock(seconds) == shown
