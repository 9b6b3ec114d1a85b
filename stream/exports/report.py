"""Self-contained HTML report: a summary, charts, words, labels and their certainty."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jinja2 import Environment
from markupsafe import Markup

from stream.appearance import appearance, light_and_dark
from stream.events import Event, SessionEnded
from stream.exports.charts import TREND, chart, clock
from stream.exports.labelled import emotions, labelled, removed, started
from stream.exports.summary import notices, second, summary
from stream.exports.text import plain, sounds

PAGE = """{% macro words(said) %}{% if said.text is none %}<small>no words kept</small>{% else %}<bdi dir="auto">{{
said.text|beginning }}</bdi>{% endif %}{% endmacro %}<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>Undertone: {{ (session.title or session.session)|plain }}</title>
<style>
:root { color-scheme: light dark; --line: color-mix(in srgb, CanvasText 18%, Canvas) }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem;
  color: CanvasText; background: Canvas }
h1, h2, h3 { line-height: 1.2; break-after: avoid } h2 { margin-top: 2.5rem }
section h2 { font-size: 1.15rem; margin: 1.6rem 0 .4rem }
h1, a, dd, td, bdi { overflow-wrap: anywhere } a { color: inherit }
.note { border-left: .3rem solid #E69F00; padding: .2rem 0 .2rem 1rem }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.2rem } dt { opacity: .75 } dd { margin: 0 }
figure { margin: 1rem 0 } figcaption, small { opacity: .75 }
svg { max-width: 100%; height: auto } svg text { font-family: system-ui, sans-serif !important }
table { border-collapse: collapse; width: 100% } td, th { padding: .3rem .6rem; text-align: left; vertical-align: top }
td:first-child, th:first-child { padding-left: 0 } thead th { font-weight: 600; opacity: .75 }
tr { border-bottom: 1px solid var(--line) } .time, .number { font-variant-numeric: tabular-nums; white-space: nowrap }
.emotion { white-space: nowrap } .emotion i { font-style: normal } .words { width: 60% } .who { min-width: 5rem }
.bar { width: 40%; min-width: 4rem }
.bar span { display: block; height: .8rem; margin-top: .35rem; border-radius: .15rem; background: GrayText;
  min-width: 1px }
.side { display: grid; grid-template-columns: 1fr 1fr; gap: 0 3rem } .side .bar { width: 45% }
meter { width: 5rem; height: .7rem; vertical-align: middle }
:target { background: color-mix(in srgb, #E69F00 25%, Canvas) }
@media (max-width: 45rem) {
  .side { grid-template-columns: 1fr } .words { width: 40% } .emotion { white-space: normal } }
@page { margin: 1.5cm }
@media print { :root { color-scheme: light } body { max-width: none; margin: 0; padding: 0; font-size: 10pt }
  section { break-after: page; font-size: 9pt } section h1 { font-size: 1.5rem; margin: 0 0 .6rem }
  section h2 { margin-top: .6rem } section ul, section p { margin: .4rem 0 } section li, section td { line-height: 1.3 }
  section td { padding-top: .2rem; padding-bottom: .2rem } .side { grid-template-columns: 1fr 1fr; gap: 0 1.5rem }
  .emotion { white-space: nowrap } .words { width: 60% }
  tr, figure, dt, dd, li, .note { break-inside: avoid } thead { display: table-header-group }
  a { text-decoration: none } .bar span, i, svg { print-color-adjust: exact } }
</style>
</head>
<body>
<section>
<h1>{{ (session.title or session.session)|plain }}</h1>
<p class="note">The labels are <strong>perceived expression</strong>: what a model takes a turn of speech to convey.
They are not what anybody feels, and they err. Where a label is called uncertain, the model does not
rule other emotions out.</p>
{% if removed %}<p class="note">This report is not whole: {{ removed }}.</p>
{% endif %}<p id="counts">{{ summary.end|clock }}{% if not ended %} so far (the session has no end yet){% endif %},
{{ summary.utterances }} utterance{{ "s" if summary.utterances > 1 }},
{{ summary.unlabelled }} without a label, {{ summary.uncertain }} uncertain.</p>
<div class="side"><div>
<h2>Talk</h2>
<table id="talk">
<thead><tr><th>Speaker</th><th colspan="2">Share of speech</th><th>Valence</th></tr></thead>
<tbody>
{% for speaker in summary.speakers %}<tr><td class="who"><bdi>{{ speaker.name|plain or "unknown" }}</bdi></td>
<td class="bar"><span style="width: {{ "%.1f"|format(100 * speaker.share) }}%"></span></td>
<td class="number">{{ "%.0f"|format(100 * speaker.share) }} % <small>{{ speaker.seconds|clock }}</small></td>
<td class="number">{% if speaker.valence is none %}<small>none</small>{% else %}{{ "%+.2f"|format(speaker.valence)
}}{% endif %}</td></tr>
{% endfor %}</tbody>
</table>
</div><div>
<h2>Emotions</h2>
{% if summary.emotions %}<table id="emotions">
<thead><tr><th>Emotion</th><th colspan="2">Share of labels</th></tr></thead>
<tbody>
{% for emotion, count in summary.emotions.items() %}<tr><td class="emotion">\
<i style="color: {{ emotion|color }}" aria-hidden="true">{{ emotion|symbol }}</i> {{ emotion|plain }}</td>
<td class="bar"><span style="width: {{ "%.1f"|format(100 * count / labels) }}%; background: {{ emotion|color
}}"></span></td>
<td class="number">{{ "%.0f"|format(100 * count / labels) }} % <small>{{ count }}</small></td></tr>
{% endfor %}</tbody>
</table>
{% else %}<p>No utterance has a label.</p>
{% endif %}</div></div>
<h2>Strongest moments</h2>
{% if summary.moments %}<table id="moments">
<tbody>
{% for moment in summary.moments|sort(attribute="time") %}<tr><td class="time"><a href="#u{{ moment.utterance }}">{{
moment.time|clock }}</a></td>
<td class="who"><bdi>{{ moment.speaker|plain or "unknown" }}</bdi></td>
<td class="words">{{ words(moment) }}</td>
<td class="emotion"><i style="color: {{ moment.emotion|color }}" aria-hidden="true">{{ moment.emotion|symbol }}</i> \
{{ moment.emotion|plain }} {{ "%.0f"|format(100 * moment.probability) }} %</td></tr>
{% endfor %}</tbody>
</table>
{% else %}<p>None stands out: no label other than neutral is certain.</p>
{% endif %}<h2>Strongest changes of a speaker</h2>
{% if summary.turns %}<table id="turns">
<tbody>
{% for turn in summary.turns|sort(attribute="time") %}<tr><td class="time"><a href="#u{{ turn.utterance }}">{{
turn.time|clock }}</a></td>
<td class="who"><bdi>{{ turn.speaker|plain or "unknown" }}</bdi></td>
<td class="words">{{ words(turn) }}</td>
<td class="emotion"><i style="color: {{ turn.before|color }}" aria-hidden="true">{{ turn.before|symbol }}</i> \
{{ turn.before|plain }} → <i style="color: {{ turn.emotion|color }}" aria-hidden="true">{{ turn.emotion|symbol }}</i> \
{{ turn.emotion|plain }} <small class="number">{{ "%+.2f"|format(turn.change) }}</small></td></tr>
{% endfor %}</tbody>
</table>
{% else %}<p>No certain label of a speaker differs in valence from the one before.</p>
{% endif %}<h2>Quality of hearing</h2>
<ul id="hearing">
<li>Words: {{ summary.hearing.asr|plain if summary.hearing.asr else "no speech recognizer" }}</li>
{% for modality, missing in summary.hearing.missing.items() %}<li>{{ modality|plain }}: missing in {{
"%.0f"|format(100 * missing.share) }} % of the labels{% if missing.reasons %} ({{
missing.reasons|map("plain")|join("; ") }}){% endif %}</li>
{% endfor %}{% if summary.hearing.failed %}<li>{{ summary.hearing.failed }} utterance{{
"s" if summary.hearing.failed > 1 }} without a final label</li>
{% endif %}<li>{% if incidents %}<a href="#incidents">{{ incidents|length }} notice{{
"s" if incidents|length > 1 }}</a> of losses and delays\
{% else %}no notices of losses and delays{% endif %}</li>
</ul>
<p><small>Valence is the probability of positive emotions less that of negative ones, -1 to 1. Moments are certain
labels other than neutral, by the larger of their valence and probability; changes go by the difference in valence.
Times are on the media clock, from the start of the session.</small></p>
</section>
<h2>Emotions by speaker</h2>
<p>A bar is an utterance in the row of its most probable emotion; hatched, it is uncertain. Beside it, how many
utterances each emotion had. Below, the valence, a dot for each utterance, the line the mean of the last {{ trend
}}.</p>
{% for speaker in speakers %}<figure role="group" aria-label="Emotions of {{ speaker.name }}">
<h3><bdi>{{ speaker.name }}</bdi></h3>
{{ speaker.chart }}
<figcaption>{{ speaker.caption }}</figcaption>
</figure>
{% endfor %}{% if incidents %}<h2 id="incidents">What went wrong</h2>
<ul>{% for notice in incidents %}<li>{{ notice.time|clock }} {{ notice.text|plain }}</li>
{% endfor %}</ul>{% endif %}
<h2>Utterances</h2>
<table id="utterances">
<thead><tr><th>Time</th><th>Speaker</th><th>Words</th><th>Emotion</th></tr></thead>
<tbody>
{% for u in utterances %}<tr id="u{{ u.utterance }}"><td class="time">{{ u.start|clock }}</td>
<td class="who"><bdi>{{ u.speaker|plain or "unknown" }}</bdi></td>
<td>{% if u.text is none %}<small>no words kept</small>{% else %}<bdi dir="auto">{{ u.text|plain }}</bdi>{% endif
%}{% if u.label and u.label|sounds %} <small>{{ u.label|sounds|join(", ") }}</small>{% endif %}</td>
<td>{% if u.label %}<span class="emotion">\
<i style="color: {{ u.label.emotion|color }}" aria-hidden="true">{{ u.label.emotion|symbol }}</i> {{
u.label.emotion|plain }}
<meter min="0" max="1" value="{{ u.label|share }}"></meter> {{ "%.0f"|format(100 * u.label|share) }} %</span>\
{% if u.label.uncertain %} <small>uncertain, or {{ u.label|second }}</small>{% endif %}\
{% if not u.label.final %} <small>not final</small>{% endif %}\
{% else %}no label{% endif %}{% if u.failed %}<small>: {{ u.failed|plain }}</small>{% endif %}</td></tr>
{% endfor %}</tbody>
</table>
<h2>About the session</h2>
<dl>
<dt>Session</dt><dd>{{ session.session|plain }}</dd>
<dt>Started</dt><dd>{{ session.time|plain }}</dd>
<dt>Length</dt><dd>{{ summary.end|clock }}{% if not ended %} so far: the session has no end yet{% endif %}</dd>
<dt>Sources</dt><dd>{% for source in session.sources %}<bdi>{{ source|plain }}</bdi>{{ ", " if not loop.last }}{% endfor
%}</dd>
<dt>Speakers</dt><dd>{% for speaker in speakers %}<bdi>{{ speaker.name }}</bdi>{{ ", " if not loop.last }}{% endfor %};
told apart by {{ by[session.speakers] }}</dd>
<dt>Emotions</dt><dd>{{ session.emotions|map("plain")|join(", ") }}</dd>
<dt>Consent</dt><dd>{% if session.consent %}<bdi>{{ session.consent|plain }}</bdi>{% else %}nothing was stated{% endif
%}</dd>
<dt>Words</dt><dd>{{ "left out" if session.redacted else "masked" if session.masked else "kept" }}; sound and
pictures {{ "kept" if session.recorded else "not kept" }}</dd>
<dt>Checkpoint</dt><dd>{{ session.checkpoint|plain }}</dd>
{% for part, encoder in session.encoders.items() %}<dt>{{ part|plain }}</dt><dd>{{ encoder|plain if encoder
else "none" }}</dd>
{% endfor %}{% if ended %}<dt>Ended</dt><dd>{{ ended.reason|plain }}</dd>
{% for name, count in ended.counts.items() if count %}<dt>{{ name|plain }}</dt><dd>{{ count }}</dd>
{% endfor %}{% endif %}</dl>
</body>
</html>
"""

MAX_QUOTED = 120  # characters of an utterance's words in the summary
BY = {"channel": "their channels", "turns": "turns that were given", "cluster": "their voices"}


@dataclass(frozen=True)
class _Speaker:
    name: str
    chart: Markup
    caption: str


def report(events: Sequence[Event]) -> bytes:
    """HTML page, UTF-8, without scripts and external files, in light and dark colors, and to be printed.

    Its first page is the summary; charts, utterances and the session's settings follow.
    """
    utterances, names, summed = labelled(events), emotions(events), summary(events)
    page = Environment(autoescape=True)
    page.filters |= {
        "plain": plain,
        "beginning": _beginning,
        "sounds": sounds,
        "clock": clock,
        "color": lambda emotion: light_and_dark(appearance(emotion)),
        "symbol": lambda emotion: appearance(emotion).symbol,
        "share": lambda label: label.probabilities.get(label.emotion, 0.0),
        "second": lambda label: plain(second(label) or "another"),
    }
    by_speaker = defaultdict(list)
    for utterance in utterances:
        by_speaker[utterance.speaker].append(utterance)
    speakers = [
        _Speaker(
            plain(each.name) or "unknown", chart(by_speaker[each.name], names, summed.end), _caption(each.emotions)
        )
        for each in summed.speakers
    ]
    text = page.from_string(PAGE).render(
        session=started(events),
        ended=next((event for event in events if isinstance(event, SessionEnded)), None),
        summary=summed,
        labels=sum(summed.emotions.values()),
        by=BY,
        trend=TREND,
        utterances=utterances,
        speakers=speakers,
        removed=removed(events),
        incidents=notices(events),
    )
    return text.encode()


def _beginning(text: str) -> str:
    """The first words of an utterance, in one line."""
    words = plain(text)
    return words if len(words) <= MAX_QUOTED else words[:MAX_QUOTED].rsplit(" ", 1)[0] + " …"


def _caption(counts: Mapping[str, int]) -> str:
    """Text alternative of the chart: number and share of each emotion."""
    if not counts:
        return "No labels."
    total = sum(counts.values())
    ordered = sorted(counts.items(), key=lambda each: each[1], reverse=True)
    parts = [f"{plain(emotion)} {count} ({100 * count / total:.0f} %)" for emotion, count in ordered]
    return f"{total} labels: {', '.join(parts)}."
