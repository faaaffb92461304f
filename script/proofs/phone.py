"""A paper as a phone sees it: tilted, from the side, in uneven light, a little out of focus, with noise, as a JPEG."""

from __future__ import annotations

import io
import random
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter


@dataclass(frozen=True, slots=True)
class Shot:
    """How a picture is taken. `scale` is pixels of the picture to pixels of the paper; `tilt_deg` turns it in its
    plane; `lean` is by which share the far edge is shorter; `blur` is in pixels; `shade` is how dark the darkest
    corner is, of 1; `noise` is in grey levels; `quality` is JPEG's.
    """

    scale: float
    tilt_deg: float
    lean: float
    blur: float
    shade: float
    noise: float
    quality: int


def some_shot(dice: random.Random) -> Shot:
    """Return how somebody in a hurry takes a picture of a paper that was rasterised at 300 dpi."""
    return Shot(
        scale=dice.uniform(0.55, 0.8),
        tilt_deg=dice.uniform(-12, 12),
        lean=dice.uniform(-0.08, 0.08),
        blur=dice.uniform(0.3, 1.1),
        shade=dice.uniform(0.0, 0.45),
        noise=dice.uniform(2, 10),
        quality=dice.randint(70, 92),
    )


def photograph(paper: Image.Image, shot: Shot, dice: random.Random) -> bytes:
    """Return the paper (mode L) as a JPEG of that shot, on a dark table."""
    border = max(paper.size) // 8
    table = Image.new("L", (paper.width + 2 * border, paper.height + 2 * border), 60)
    table.paste(paper, (border, border))
    turned = table.rotate(shot.tilt_deg, resample=Image.Resampling.BICUBIC, fillcolor=60)
    width, height = turned.size
    inset = abs(shot.lean) * width / 2
    near, far = (0.0, inset) if shot.lean >= 0 else (inset, 0.0)
    size = (round(width * shot.scale), round(height * shot.scale))
    seen = _perspective(turned, size, near, far)
    seen = seen.filter(ImageFilter.GaussianBlur(shot.blur))
    down, across = np.mgrid[0 : size[1], 0 : size[0]].astype(np.float32)
    slope = (across / size[0] + down / size[1]) / 2
    light = 1 - shot.shade * (slope if dice.random() < 0.5 else 1 - slope)
    grain = np.random.default_rng(dice.getrandbits(64)).normal(0, shot.noise, (size[1], size[0]))
    # Paper is no mirror and ink is not black.
    grey = (40 + np.asarray(seen, np.float32) * (195 / 255)) * light + grain
    target = io.BytesIO()
    Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)).save(target, "JPEG", quality=shot.quality)
    return target.getvalue()


def _perspective(picture: Image.Image, size: tuple[int, int], near: float, far: float) -> Image.Image:
    """The picture seen from below or above: its upper edge `far` px further out on each side, its lower one `near`."""
    width, height = picture.size
    source = [(-far, 0.0), (width + far, 0.0), (width + near, float(height)), (-near, float(height))]
    target = [(0, 0), (size[0], 0), (size[0], size[1]), (0, size[1])]
    rows, values = [], []
    for (x, y), (u, v) in zip(target, source, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    found = np.linalg.solve(np.array(rows, float), np.array(values, float))
    return picture.transform(
        size, Image.Transform.PERSPECTIVE, tuple(found), resample=Image.Resampling.BICUBIC, fillcolor=60
    )
