"""What stays the same in a person's seven photos, and what changes from one to the next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ensemble_kit.data.drawing.brush import Colour, colour, mix
from ensemble_kit.data.drawing.population import Person

SKINS = [
    colour(244, 206, 180),
    colour(242, 198, 166),
    colour(240, 192, 156),
    colour(226, 172, 132),
    colour(204, 148, 108),
    colour(172, 118, 84),
    colour(140, 94, 68),
]
HAIRS = [
    colour(38, 32, 36),
    colour(58, 42, 38),
    colour(88, 58, 42),
    colour(120, 76, 46),
    colour(146, 70, 44),
    colour(190, 104, 56),
    colour(150, 108, 66),
    colour(206, 160, 92),
]
GREY = colour(180, 180, 186)
CLOTHES = [
    colour(64, 92, 140),
    colour(84, 140, 116),
    colour(60, 64, 76),
    colour(112, 150, 184),
    colour(150, 112, 84),
    colour(196, 84, 74),
    colour(236, 180, 84),
    colour(120, 96, 150),
    colour(226, 222, 212),
    colour(214, 130, 152),
]
"""Of everybody: colours of clothes that told the gender would be told by a linear model too."""
WALLS = [
    colour(196, 216, 228),
    colour(238, 222, 198),
    colour(206, 222, 200),
    colour(228, 206, 210),
    colour(214, 208, 228),
    colour(246, 238, 226),
    colour(150, 172, 188),
    colour(176, 160, 146),
    colour(226, 196, 140),
    colour(140, 176, 180),
    colour(226, 170, 152),
    colour(164, 156, 190),
]
IRISES = [
    colour(70, 46, 34),
    colour(96, 66, 42),
    colour(74, 102, 74),
    colour(78, 116, 150),
    colour(60, 44, 40),
]
LIDS = [colour(150, 90, 150), colour(100, 120, 180), colour(196, 100, 120), colour(96, 146, 140)]
_LIP = colour(196, 84, 92)

_STYLES = ("short", "parted", "curly", "buzz", "pixie", "long", "wavy", "bob", "bun")
_STYLE_SHARES = {
    0: (0.41, 0.28, 0.15, 0.15, 0.01, 0.00, 0.00, 0.00, 0.00),
    1: (0.00, 0.00, 0.00, 0.00, 0.01, 0.41, 0.33, 0.24, 0.01),
}
"""Hair styles of men and women: most tell the gender, some do not."""


@dataclass(frozen=True)
class Look:
    """A person's fixed looks. Lengths in face units; names ending in `_tone` are colours."""

    half_width: float
    half_height: float
    jaw: float
    chin: float
    neck: float
    skin_tone: Colour
    hair_tone: Colour
    iris_tone: Colour
    lip_tone: Colour
    top_tone: Colour
    style: str
    part: float
    hairline: float
    brow: float
    lashes: float
    eye: float
    lid_tone: Colour
    lips: float
    nose: float
    beard: float
    glasses: bool
    freckles: bool
    earrings: bool
    neckline: str
    necklace: bool
    scene: int
    """Seed of the background."""

    @property
    def line_tone(self) -> Colour:
        """Lines and folds of the skin."""
        return mix(self.skin_tone * 0.42, colour(92, 34, 30), 0.35)

    @property
    def shade_tone(self) -> Colour:
        return mix(self.skin_tone * 0.72, colour(160, 70, 56), 0.22)


@dataclass(frozen=True)
class Shot:
    """One photo's pose and light."""

    shift: tuple[float, float]
    scale: float
    tilt: float
    turn: float
    nod: float
    gain: float
    side_light: float
    warmth: float
    contrast: float
    smile: float
    lids: float


def _pick(rng: np.random.Generator, palette: list[Colour], spread: float) -> Colour:
    """A palette colour, lightened or darkened as a whole and a little in each channel."""
    paint = palette[rng.integers(len(palette))]
    return np.clip(paint * rng.uniform(1 - spread, 1 + spread) + rng.normal(0, 5, 3), 12, 250)


def draw_look(person: Person) -> Look:
    """The looks of one person; the seed alone decides them."""
    rng = np.random.default_rng((*person.seed, 2))
    woman = person.gender == 1
    lean = (1.0 if woman else -1.0) * (0.5 if rng.random() < 0.01 else 1.0)
    skin = _pick(rng, SKINS, 0.05)
    hair = _pick(rng, HAIRS if skin.mean() > 140 else HAIRS[:4], 0.15)
    half_width = rng.normal(110, 5) - 3 * lean
    return Look(
        half_width=half_width,
        half_height=half_width * rng.normal(1.31, 0.035),
        jaw=float(np.clip(rng.normal(0.79, 0.025) - 0.065 * lean, 0.66, 0.90)),
        chin=float(np.clip(rng.normal(0.42, 0.03) - 0.05 * lean, 0.28, 0.52)),
        neck=rng.normal(62, 3) - 10 * lean,
        skin_tone=skin,
        hair_tone=mix(hair, GREY, rng.uniform(0.3, 0.6) if rng.random() < 0.05 else 0),
        iris_tone=_pick(rng, IRISES, 0.1),
        lip_tone=mix(mix(skin, _LIP, 0.45), _LIP * rng.uniform(0.85, 1.05), 0.5 + 0.5 * lean * rng.uniform(0.2, 1)),
        top_tone=_pick(rng, CLOTHES, 0.12),
        style=str(rng.choice(_STYLES, p=_STYLE_SHARES[int(lean > 0)])),
        part=rng.uniform(-0.55, 0.55),
        hairline=rng.normal(0.70, 0.025),
        brow=float(np.clip(rng.normal(12, 1.0) - 5.0 * lean, 5, 18)),
        lashes=float(np.clip(rng.normal(0.47, 0.10) + 0.5 * lean, 0, 1)),
        eye=rng.normal(1.0, 0.04) + 0.06 * lean,
        lid_tone=mix(skin, _pick(rng, LIDS, 0.1), float(np.clip(0.2 + 0.5 * lean + rng.normal(0, 0.08), 0, 0.8))),
        lips=rng.normal(1.0, 0.1) + 0.16 * lean,
        nose=rng.normal(1.0, 0.1) - 0.05 * lean,
        beard=0.0 if woman else float(rng.choice([0, 0.35, 1], p=[0.60, 0.15, 0.25])),
        glasses=bool(rng.random() < 0.12),
        freckles=bool(rng.random() < 0.07),
        earrings=bool(rng.random() < (0.7 if woman else 0.03)),
        neckline=str(rng.choice(("round", "v", "collar"), p=(0.45, 0.40, 0.15) if woman else (0.30, 0.10, 0.60))),
        necklace=bool(rng.random() < (0.45 if woman else 0.02)),
        scene=int(rng.integers(2**31)),
    )


def draw_shot(rng: np.random.Generator) -> Shot:
    """The pose and light of one photo.

    The face's place varies most: that costs a convolutional network next to nothing, and a linear model nearly all.
    """
    return Shot(
        shift=(rng.uniform(-46, 46), rng.uniform(-30, 30)),
        scale=rng.uniform(1.06, 1.18),
        tilt=rng.normal(0, 0.03),
        turn=float(np.clip(rng.normal(0, 0.25), -1, 1)),
        nod=rng.normal(0, 2),
        gain=float(np.clip(rng.normal(0.97, 0.05), 0.8, 1.15)),
        side_light=float(np.clip(rng.normal(0, 0.08), -0.25, 0.25)),
        warmth=rng.normal(0, 0.04),
        contrast=float(np.clip(rng.normal(1.0, 0.06), 0.8, 1.2)),
        smile=rng.uniform(-0.2, 1.0),
        lids=rng.uniform(0.0, 0.18),
    )
