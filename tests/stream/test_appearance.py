from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from colorspacious import deltaE

from model.encoders.face_observation import EXPRESSIONS
from model.labels import LABEL_SETS, RAVDESS
from stream.appearance import APPEARANCES, UNKNOWN, appearance, light_and_dark, valence

GROUNDS = {"light": ("#ffffff", "#f4f6f9"), "dark": ("#11151b", "#1a2028")}  # stream/dashboard/style.css
SETS = {name: labels.emotions for name, labels in LABEL_SETS.items()} | {"voice": RAVDESS, "faces": EXPRESSIONS}
LOOKS = {*APPEARANCES.values(), UNKNOWN}
# Vision without the cones for long, middle or short waves (Machado, Oliveira & Fernandes 2009), and the usual.
VISION = {
    "usual": "sRGB1",
    **{
        f"{cone}opia": {"name": "sRGB1+CVD", "cvd_type": f"{cone}omaly", "severity": 100}
        for cone in ("protan", "deuteran", "tritan")
    },
}


def rgb(color: str) -> np.ndarray:
    return np.array([int(color[at : at + 2], 16) for at in (1, 3, 5)]) / 255


def contrast(one: str, other: str) -> float:
    """Contrast ratio of WCAG 2.2."""
    linear = (np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) for c in map(rgb, (one, other)))
    darker, lighter = sorted(float(c @ [0.2126, 0.7152, 0.0722]) for c in linear)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("emotions", SETS.values(), ids=SETS)
def test_every_label_that_ships_has_a_row(emotions) -> None:
    assert set(emotions) <= set(APPEARANCES)


def test_a_strange_label_looks_like_none_of_the_others() -> None:
    assert appearance("bored") is UNKNOWN and UNKNOWN.symbol not in {look.symbol for look in APPEARANCES.values()}


@pytest.mark.parametrize("emotions", [LABEL_SETS[name].emotions for name in LABEL_SETS], ids=LABEL_SETS)
def test_the_symbols_and_patterns_of_a_set_differ(emotions) -> None:
    assert len({appearance(emotion).symbol for emotion in emotions}) == len(emotions)
    assert len({appearance(emotion).pattern for emotion in emotions}) == len(emotions)


@pytest.mark.parametrize("theme", GROUNDS)
def test_every_color_stands_out_from_the_ground_of_its_theme(theme) -> None:
    worst = min((contrast(getattr(look, theme), ground), look.symbol) for look in LOOKS for ground in GROUNDS[theme])
    assert worst[0] >= 3, worst


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("theme", GROUNDS)
@pytest.mark.parametrize("emotions", [LABEL_SETS[name].emotions for name in LABEL_SETS], ids=LABEL_SETS)
def test_the_colors_of_a_set_differ_to_every_kind_of_eye(emotions, theme, vision) -> None:
    colors = {emotion: rgb(getattr(appearance(emotion), theme)) for emotion in emotions}
    away = {
        pair: float(deltaE(colors[pair[0]], colors[pair[1]], input_space=VISION[vision]))
        for pair in combinations(emotions, 2)
    }
    nearest = min(away, key=away.__getitem__)
    assert away[nearest] > 12, (nearest, away[nearest])


def test_hues_are_those_that_readers_expect() -> None:
    def strongest(emotion: str, theme: str) -> str:
        return "rgb"[int(rgb(getattr(appearance(emotion), theme)).argmax())]

    for theme in GROUNDS:
        assert strongest("anger", theme) == "r" and strongest("sadness", theme) == "b"
        assert strongest("disgust", theme) == "g" and strongest("fear", theme) == "b"


def test_a_css_color_follows_the_page() -> None:
    assert light_and_dark(appearance("anger")) == "light-dark(#be2238, #d92631)"


def test_valence_is_positive_less_negative_whatever_the_label_set() -> None:
    assert valence({"neutral": 0.2, "joy": 0.7, "anger": 0.1}) == pytest.approx(0.6)
    assert valence({"peaceful": 0.5, "mad": 0.2, "surprise": 0.3}) == pytest.approx(0.3)
    assert valence({"joyful": 0.5, "bored": 0.5}) == pytest.approx(0.5)
