"""Colours of LLMs, also for colour-blind readers."""

import re
from importlib.resources import files

import numpy as np
import pytest
from numpy.typing import NDArray

CSS = files("streams.web").joinpath("static", "page.css").read_text()
LIGHT, DARK = CSS.split("prefers-color-scheme: dark", 1)
DISTINCT = 8
"""Colours that one chart shows at once."""

FURTHER_APART = 20.0
"""Distance in CIELAB; below 10 two areas look alike."""

# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB
SIGHT = {
    "all colours": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.01182, 0.04294, 0.968881),
    ),
    "tritanopia": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.3039),
    ),
}
TO_XYZ = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
Floats = NDArray[np.float64]


def colour(theme: str, name: str) -> Floats:
    """Linear RGB of a variable of the style sheet."""
    match = re.search(rf"--{name}: #([0-9a-f]{{6}})", theme)
    assert match, name
    value = np.array([int(match[1][i : i + 2], 16) for i in (0, 2, 4)]) / 255
    return np.asarray(np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4))


def lab(linear: Floats) -> Floats:
    t = np.clip(linear, 0, 1) @ np.array(TO_XYZ).T / np.array([0.9505, 1, 1.089])
    f = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_of_one_chart_differ(theme: str, sight: str):
    colours = [lab(np.array(SIGHT[sight]) @ colour(theme, f"c{i}")) for i in range(DISTINCT)]
    apart = {
        (i, j): float(np.linalg.norm(colours[i] - colours[j])) for i in range(DISTINCT) for j in range(i)
    }
    assert {pair: distance for pair, distance in apart.items() if distance < FURTHER_APART} == {}


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_have_contrast_to_the_background(theme: str):
    light = np.array([0.2126, 0.7152, 0.0722])
    paper = float(light @ colour(theme, "card"))
    for i in range(DISTINCT):
        own = float(light @ colour(theme, f"c{i}"))
        assert (max(own, paper) + 0.05) / (min(own, paper) + 0.05) >= 3, i
