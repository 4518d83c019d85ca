"""Hair: what hangs behind the head and what frames the face."""

from __future__ import annotations

import numpy as np

from ensemble_kit.data.drawing.brush import Brush, Colour, Points, curve, mirrored, mix, oval
from ensemble_kit.data.drawing.head import WHITE
from ensemble_kit.data.drawing.look import GREY, Look

LONG = ("long", "wavy", "bob")
_TOP = {"short": 1.15, "parted": 1.17, "curly": 1.17, "buzz": 1.06, "pixie": 1.16, "bun": 1.10}
"""How far the hair stands above the crown, in face heights; the styles not named take 1.14."""
_SIDE = {"buzz": -0.10, "short": -0.02, "parted": 0.0, "curly": 0.02, "pixie": 0.12, "bun": 0.02}
"""Where the hair beside the face ends."""


def draw_back_hair(brush: Brush, look: Look, upper: float) -> None:
    """The hair behind the neck and the shoulders; short styles have none."""
    w, h = look.half_width, look.half_height
    tone = _greyed(look, upper)
    dark = tone * 0.66
    if look.style == "bun":
        brush.fill(oval((0, -1.16 * h), (0.36 * w, 0.25 * h)), tone * 0.9)
    if look.style not in LONG:
        return
    end = {"long": 1.55, "wavy": 1.40, "bob": 0.88}[look.style]
    wave = {"long": 0.0, "wavy": 0.075, "bob": 0.02}[look.style]
    y = np.linspace(-0.45, 0.9 * end, 12)
    x = 1.17 + 0.06 * np.sin((y + 0.45) / end * 2.6) + wave * np.sin(np.arange(12) * (np.pi / 2))
    half = np.concatenate(
        [[(0, -1.14), (0.55, -1.02), (0.93, -0.74)], np.stack([x, y], axis=1), [(0.9, end), (0, end)]]
    )
    brush.fill(curve(mirrored(half * (w, h)), closed=True, steps=4), dark)


def draw_front_hair(brush: Brush, look: Look, upper: float) -> None:
    """The hair around the forehead, going grey from the temples with the upper part's age."""
    w, h = look.half_width, look.half_height
    tone = _greyed(look, upper)
    if look.style == "buzz":
        tone = mix(tone, look.skin_tone, 0.25)
    if look.style == "curly":
        _draw_curls(brush, look, tone)
    brush.fill(_cap(look), tone)
    grey = np.clip(upper * 3.0 - 1.9, 0, 1)
    for side in (-1, 1):
        if look.style in LONG:
            brush.fill(_strand(look, side), tone)
            _draw_locks(brush, look, side, tone)
        _draw_temple(brush, look, side, mix(tone, GREY, grey), grey)
    shine = [(-0.55 * w, -0.92 * h), (-0.2 * w, -1.0 * h), (0.2 * w, -0.99 * h)]
    brush.stroke(shine, mix(tone, GREY, 0.22), 7)


def _draw_locks(brush: Brush, look: Look, side: int, tone: Colour) -> None:
    """Single locks of long hair, dark and light in turn from the parting to the shoulder."""
    w, h = look.half_width, look.half_height
    end = 0.60 if look.style == "bob" else 0.92
    wave = 0.05 if look.style == "wavy" else 0.0
    for row, (x, y) in enumerate(((0.42, -0.90), (0.60, -0.86), (0.76, -0.78), (0.90, -0.66))):
        out = 1.0 + 0.055 * row
        lock = [(side * x * 0.6, y - 0.05), (side * (x + 0.12), y + 0.18), (side * (out + wave), -0.15)]
        lock += [(side * (out - wave), 0.2 * end), (side * (out + 0.01 + wave), 0.6 * end), (side * (out - wave), end)]
        brush.stroke(np.array(lock) * (w, h), tone * 0.6 if row % 2 else mix(tone, WHITE, 0.3), 5.5, taper=0.6)


def _greyed(look: Look, upper: float) -> Colour:
    """The hair's colour on the whole: the temples go before it."""
    return mix(look.hair_tone, GREY, np.clip(upper * 2 - 1.3, 0, 0.5))


def _cap(look: Look) -> Points:
    """The hair's outline from ear to ear over the top, and back along the hairline."""
    w, h = look.half_width, look.half_height
    top, side = _TOP.get(look.style, 1.14), _SIDE.get(look.style, 0.05)
    left = [(-1.02 * w, side * h), (-1.09 * w, -0.30 * h), (-0.95 * w, -0.60 * top * h), (-0.56 * w, -0.90 * top * h)]
    outer = [*left, (0.15 * look.part * w, -top * h), *((-x, y) for x, y in left[::-1])]
    line, part = look.hairline, look.part
    if look.style in ("parted", "pixie", "bob"):
        sweep = 0.12 if look.style == "parted" else 0.17
        inner = [(0.93 * w, -0.22 * h), (0.84 * w, -0.50 * h), (0.45 * w, -(line - sweep * (part < 0)) * h)]
        inner += [(part * w, -(line + 0.10) * h), (-0.45 * w, -(line - sweep * (part >= 0)) * h)]
        inner += [(-0.84 * w, -0.50 * h), (-0.93 * w, -0.22 * h)]
    elif look.style in LONG:
        inner = [(0.93 * w, -0.14 * h), (0.80 * w, -0.50 * h), (0.45 * w + 0.3 * part * w, -0.72 * h)]
        inner += [(part * w, -0.84 * h), (-0.45 * w + 0.3 * part * w, -0.72 * h), (-0.80 * w, -0.50 * h)]
        inner += [(-0.93 * w, -0.14 * h)]
    else:
        inner = [(0.94 * w, -0.20 * h), (0.86 * w, -0.48 * h), (0.62 * w, -line * h), (0, -(line + 0.03) * h)]
        inner += [(-0.62 * w, -line * h), (-0.86 * w, -0.48 * h), (-0.94 * w, -0.20 * h)]
    return np.concatenate([curve(outer), curve(inner)])


def _draw_temple(brush: Brush, look: Look, side: int, tone: Colour, grey: float) -> None:
    """Locks in `tone` beside the eye, broader the greyer they are."""
    if grey < 0.04:
        return
    w, h = look.half_width, look.half_height
    for row in range(3):
        x, y = 0.04 * row, 0.07 * row
        lock = [(0.80 + x, -0.66 - 0.14 * grey + 0.03 * row), (0.95 + x, -0.44 - y), (1.0 + 0.6 * x, -0.12 - y)]
        brush.stroke(
            np.array(lock) * (side * w, h), look.hair_tone * 0.55 if row == 1 else tone, 4 + 5 * grey, taper=0.8
        )


def _strand(look: Look, side: int) -> Points:
    """Long hair falling in front of one ear."""
    w, h = look.half_width, look.half_height
    end = 0.62 if look.style == "bob" else 0.95
    outer = [(side * 1.05 * w, -0.5 * h), (side * 1.2 * w, 0.0), (side * 1.2 * w, end * h)]
    inner = [(side * 1.0 * w, (end - 0.05) * h), (side * 0.97 * w, 0.1 * h), (side * 0.88 * w, -0.4 * h)]
    return np.concatenate([curve(outer), curve(inner)])


def _draw_curls(brush: Brush, look: Look, tone: Colour) -> None:
    w, h = look.half_width, look.half_height
    angle = np.linspace(-0.05, np.pi + 0.05, 13)
    centres = np.stack([np.cos(angle) * 1.06 * w, -0.28 * h - np.sin(angle) * 0.80 * h], axis=1)
    brush.dots(centres.tolist(), 0.21 * w, tone)
