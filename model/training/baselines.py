"""Baselines: the majority class, and logistic regression on TF-IDF of the utterance and its past six."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from model.data.tables import Dialogue, labelled_rows
from model.labels import LabelSet

PAST_UTTERANCES = 6


def majority(training: list[Dialogue], validation: list[Dialogue], labels: LabelSet) -> NDArray[np.int64]:
    """[n] int64: the most frequent training emotion, for each validation utterance with a label."""
    rows = [row for dialogue in training for row in dialogue.rows if row.is_labelled]
    winner = int(np.bincount([labels.emotions.index(row.emotion) for row in rows]).argmax())
    return np.full(int(labelled_rows(validation).sum()), winner)


def tfidf(
    training: list[Dialogue], validation: list[Dialogue], labels: LabelSet, progress: Callable[[str], None]
) -> NDArray[np.int64]:
    """[n] int64: predictions of logistic regression on TF-IDF of the utterance and, separately, of its past six.

    Regularisation and class weights are selected on validation data by weighted F1, as the network's epoch is.
    """
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score

    now, before, emotions = zip(*(_texts(table, labels) for table in (training, validation)), strict=True)
    blocks = []
    for texts in (now, before):
        # Punctuation stays: "!" and "?" raise weighted F1 on MELD by ten points.
        pattern = r"\w+|[^\w\s]"
        vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, token_pattern=pattern)
        blocks.append((vectorizer.fit_transform(texts[0]), vectorizer.transform(texts[1])))
    inputs = [hstack([own, 0.3 * past]).tocsr() for own, past in zip(*blocks, strict=True)]
    best_score, best = -1.0, np.empty(0, dtype=np.int64)
    for strength in (1.0, 2.0, 5.0):
        for class_weight in (None, "balanced"):
            model = LogisticRegression(C=strength, class_weight=class_weight, max_iter=1000)
            guess = model.fit(inputs[0], emotions[0]).predict(inputs[1])
            score = float(f1_score(emotions[1], guess, average="weighted", zero_division=0))
            progress(f"TF-IDF, C {strength}, class weights {class_weight}: weighted F1 {100 * score:.2f}")
            if score > best_score:
                best_score, best = score, guess
    return best


def _texts(table: list[Dialogue], labels: LabelSet) -> tuple[list[str], list[str], NDArray[np.int64]]:
    now, before, emotions = [], [], []
    for dialogue in table:
        lines = [row.text for row in dialogue.rows]
        for t, row in enumerate(dialogue.rows):
            if not row.is_labelled:
                continue
            now.append(lines[t])
            before.append(" ".join(lines[max(0, t - PAST_UTTERANCES) : t]))
            emotions.append(labels.emotions.index(row.emotion))
    return now, before, np.array(emotions)
