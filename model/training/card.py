"""The model card beside the weights, in Hugging Face's layout."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from model.metrics import NAMES

if TYPE_CHECKING:
    from model.fusion.network import FusionGCN

DATA = {
    "meld": (
        "MELD (Poria et al. 2019, GPL-3.0): acted dialogue of the television series Friends, a few scriptwriters' "
        "idea of how some Americans in their twenties and thirties spoke in the 1990s",
        "gpl-3.0",
    ),
    "emorynlp": (
        "EmoryNLP (Zahiri & Choi 2018, Apache-2.0): acted dialogue of the television series Friends, text only",
        "apache-2.0",
    ),
    "iemocap": (
        "IEMOCAP (Busso et al. 2008), released by USC under a signed form: these weights are for local research and "
        "may not be passed on",
        "other",
    ),
}


def model_card(model: FusionGCN, report: dict[str, Any]) -> str:
    """Markdown with YAML metadata: data, licence, metrics, calibration, biases, what it must not be used for."""
    config = model.config
    data, licence = DATA.get(config.label_set, ("the trainer's own table", "other"))
    rows = "\n".join(
        f"| {title} | "
        + " | ".join(f"{report[key][n]['mean']} ± {report[key][n]['half_width_95']}" for n in NAMES)
        + " |"
        for key, title in (("provisional", "as the speaker stops"), ("final", f"{config.revision} utterances later"))
    )
    shipped = " | ".join(str(report["shipped"][name]) for name in NAMES)
    modalities = ", ".join(config.modalities)
    tuned = (
        "a LoRA adapter (in `adapter/`), tuned on the single sentences of GoEmotions (Demszky et al. 2020, Apache-2.0)"
        if (report["config"]["adapter"] or {}).get("graph")
        else "no adapter"
    )
    expert = (
        f"""
Beside it the expert "reader" (the same encoder; in `reader/`, its adapter and head) reads the words with the
{config.reader.context} utterances before them and is tuned on this data. Its opinion joins after the heads with weight
{float(model.expert_weight[0]):.2f}, fitted on dev."""
        if config.reader
        else ""
    )
    settings = {**asdict(replace(config, prosody=None)), "prosody": "in config.json" if config.prosody else None}
    return f"""---
library_name: undertone
license: {licence}
language: en
pipeline_tag: text-classification
tags: [emotion-recognition-in-conversation]
---
# Undertone fusion-GCN, {config.label_set}

Labels each utterance of a conversation as {", ".join(config.emotions)}, and its sentiment, causally: it reads up to
{config.window} past utterances and no later one ({config.revision} later ones for the final label). Modalities:
{modalities}. {report["parameters"]:,} parameters of its own.

The text encoder is {config.text}, with {tuned}.{expert}

    undertone replay call.wav --checkpoint {config.label_set}

## Data

{report["data"]}: {data}. Splits as published; the test split was neither seen nor used to select anything.

## Metrics

On dev, in percent. Selected on {report["selected_on"]}.
Mean ± {report["interval"]}, {report["seeds"]} seeds; the last row is the seed in this folder.

| | {" | ".join(NAMES.values())} |
|---|{"---|" * len(NAMES)}
{rows}
| this checkpoint | {shipped} |

95 % bootstrap over dialogues: accuracy {report["shipped"]["accuracy_95"]}, weighted F1
{report["shipped"]["weighted_f1_95"]}.

## Calibration

Temperature {report["temperature"]}, fitted on dev. An utterance is called `uncertain` when not exactly one class
reaches {report["conformal_threshold"]} (split-conformal on dev, coverage 70 %).

## Biases, and what it must not be used for

- It has learnt *perceived, acted* expression as annotators of television saw it, not what anybody feels.
- English only. Accents, dialects, sarcasm, ages and cultures other than the actors' are not in its data; it was not
  measured by group, so assume that it errs more for whoever resembles the data less.
- Rare classes (on MELD: disgust and fear) are mostly missed; a label of them is weak evidence, its absence is none.
- Pitch and loudness differ by speaker and microphone; they are normalised per speaker, which takes a few utterances.
- Not for judging people: not for hiring, work, school, policing, borders, credit, medical or legal decisions. Inferring
  emotions at work or in education is prohibited in the EU (AI Act, Art. 5(1)(f), medical and safety reasons excepted).

## Configuration

```json
{json.dumps(settings, indent=1)}
```
"""
