"""Self-contained HTML report: words, labels, their certainty, and charts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import Environment
from markupsafe import Markup

from stream.appearance import appearance, light_and_dark
from stream.events import Degraded, Event, Lag, SessionEnded
from stream.exports.charts import TREND, chart, clock
from stream.exports.labelled import Labelled, duration, emotions, labelled, removed, started
from stream.exports.text import plain, sounds

PAGE = """<!doctype html>
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
h1, h2, h3 { line-height: 1.2 } h2 { margin-top: 2.5rem }
.note { border-left: .3rem solid #E69F00; padding: .2rem 0 .2rem 1rem }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.2rem } dt { opacity: .75 } dd { margin: 0 }
dd, td, bdi { overflow-wrap: anywhere }
figure { margin: 1rem 0 } figcaption, small { opacity: .75 }
svg { max-width: 100%; height: auto } svg text { font-family: system-ui, sans-serif !important }
table { border-collapse: collapse; width: 100% } td, th { padding: .3rem .6rem; text-align: left; vertical-align: top }
tr { border-bottom: 1px solid var(--line) } .time { font-variant-numeric: tabular-nums; white-space: nowrap }
.emotion { white-space: nowrap }
.emotion i { font-style: normal }
meter { width: 5rem; height: .7rem; vertical-align: middle }
@media print { body { max-width: none; margin: 0 } tr, figure { break-inside: avoid } }
</style>
</head>
<body>
<h1>{{ (session.title or session.session)|plain }}</h1>
<p class="note">The labels are <strong>perceived expression</strong>: what a model takes a turn of speech to convey.
They are not what anybody feels, and they err. Where a label is called uncertain, the model does not
rule other emotions out.</p>
{% if removed %}<p class="note">This report is not whole: {{ removed }}.</p>
{% endif %}<dl>
<dt>Session</dt><dd>{{ session.session|plain }}</dd>
<dt>Started</dt><dd>{{ session.time|plain }}</dd>
<dt>Length</dt><dd>{{ length|clock }}{% if not ended %} so far: the session has no end yet{% endif %}</dd>
<dt>Sources</dt><dd>{% for source in session.sources %}<bdi>{{ source|plain }}</bdi>{{ ", " if not loop.last }}{% endfor
%}</dd>
<dt>Speakers</dt><dd>{% for speaker in speakers %}<bdi>{{ speaker.name }}</bdi>{{ ", " if not loop.last }}{% endfor %};
told apart by {{ by[session.speakers] }}</dd>
<dt>Utterances</dt><dd>{{ utterances|length }}, {{ unlabelled }} without a label, {{ uncertain }} uncertain</dd>
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
<h2>Emotions by speaker</h2>
<p>A bar is an utterance in the row of its most probable emotion; hatched, it is uncertain. Beside it, how many
utterances each emotion had. Below, the valence: the probability of positive emotions less that of negative ones, a
dot for each utterance, the line the mean of the last {{ trend }}.</p>
{% for speaker in speakers %}<figure role="group" aria-label="Emotions of {{ speaker.name }}">
<h3><bdi>{{ speaker.name }}</bdi></h3>
{{ speaker.chart }}
<figcaption>{{ speaker.caption }}</figcaption>
</figure>
{% endfor %}{% if incidents %}<h2>What went wrong</h2>
<ul>{% for seconds, what in incidents %}<li>{{ seconds|clock }} {{ what|plain }}</li>
{% endfor %}</ul>{% endif %}
<h2>Utterances</h2>
<table>
<thead><tr><th>Time</th><th>Speaker</th><th>Words</th><th>Emotion</th></tr></thead>
<tbody>
{% for u in utterances %}<tr><td class="time">{{ u.start|clock }}</td>
<td><bdi>{{ u.speaker|plain or "unknown" }}</bdi></td>
<td>{% if u.text is none %}<small>no words kept</small>{% else %}<bdi dir="auto">{{ u.text|plain }}</bdi>{% endif
%}{% if u.label and u.label|sounds %} <small>{{ u.label|sounds|join(", ") }}</small>{% endif %}</td>
<td>{% if u.label %}<span class="emotion">\
<i style="color: {{ u.label|color }}" aria-hidden="true">{{ u.label|symbol }}</i> {{ u.label.emotion|plain }}
<meter min="0" max="1" value="{{ u.label|share }}"></meter> {{ "%.0f"|format(100 * u.label|share) }} %</span>\
{% if u.label.uncertain %} <small>uncertain, or {{ u.label|second }}</small>{% endif %}\
{% if not u.label.final %} <small>not final</small>{% endif %}\
{% else %}no label{% endif %}{% if u.failed %}<small>: {{ u.failed|plain }}</small>{% endif %}</td></tr>
{% endfor %}</tbody>
</table>
<p><small>{{ session.emotions|length }} emotions are told apart: {{ session.emotions|map("plain")|join(", ") }}. Times
are on the media clock, from the start of the session.</small></p>
</body>
</html>
"""

BY = {"channel": "their channels", "turns": "turns that were given", "cluster": "their voices"}


@dataclass(frozen=True)
class _Speaker:
    name: str
    chart: Markup
    caption: str


def report(events: Sequence[Event]) -> bytes:
    """HTML page, UTF-8, without scripts and external files, in light and dark colors."""
    utterances, names, length = labelled(events), emotions(events), duration(events)
    page = Environment(autoescape=True)
    page.filters |= {
        "plain": plain,
        "sounds": sounds,
        "clock": clock,
        "color": lambda label: light_and_dark(appearance(label.emotion)),
        "symbol": lambda label: appearance(label.emotion).symbol,
        "share": lambda label: label.probabilities.get(label.emotion, 0.0),
        "second": lambda label: plain(sorted(label.probabilities, key=label.probabilities.__getitem__)[-2:][0]),
    }
    speakers = []
    for name in dict.fromkeys(utterance.speaker for utterance in utterances):
        own = [utterance for utterance in utterances if utterance.speaker == name]
        speakers.append(_Speaker(plain(name) or "unknown", chart(own, names, length), _caption(own, names)))
    text = page.from_string(PAGE).render(
        session=started(events),
        ended=next((event for event in events if isinstance(event, SessionEnded)), None),
        length=length,
        by=BY,
        trend=TREND,
        utterances=utterances,
        unlabelled=sum(utterance.label is None for utterance in utterances),
        uncertain=sum(utterance.label is not None and utterance.label.uncertain for utterance in utterances),
        speakers=speakers,
        removed=removed(events),
        incidents=_incidents(events),
    )
    return text.encode()


def _caption(utterances: Sequence[Labelled], emotions: Sequence[str]) -> str:
    """Text alternative of the chart: number and share of each emotion."""
    labels = [utterance.label.emotion for utterance in utterances if utterance.label is not None]
    if not labels:
        return "No labels."
    counts = sorted(((labels.count(emotion), emotion) for emotion in emotions), reverse=True)
    parts = [f"{plain(emotion)} {count} ({100 * count / len(labels):.0f} %)" for count, emotion in counts if count]
    return f"{len(labels)} labels: {', '.join(parts)}."


def _incidents(events: Sequence[Event]) -> list[tuple[float, str]]:
    """Media time and description of every notice and lag."""
    found = []
    for event in events:
        if isinstance(event, Degraded):
            found.append((event.audio_time, event.reason))
        elif isinstance(event, Lag):
            found.append((event.audio_time, f"{event.seconds:.1f} s behind the source"))
    return found
