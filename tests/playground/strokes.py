"""Digits as somebody draws them: strokes of points in [0, 1], from the pad's top left."""

import itertools
import math

Strokes = list[list[list[float]]]


def arc(x: float, y: float, wide: float, high: float, start: float, end: float) -> list[list[float]]:
    """Return points of an ellipse's arc; degrees, 0 to the right, 90 up."""
    angles = [math.radians(start + (end - start) * step / 24) for step in range(25)]
    return [[x + wide * math.cos(angle), y - high * math.sin(angle)] for angle in angles]


def line(*points: tuple[float, float]) -> list[list[float]]:
    """Return points along straight lines, as a hand at an even pace leaves them."""
    found = []
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        found += [[x0 + (x1 - x0) * step / 8, y0 + (y1 - y0) * step / 8] for step in range(9)]
    return found


def placed(strokes: Strokes, x: float, y: float, size: float, slant: float = 0.0) -> Strokes:
    """Return strokes around (0.5, 0.5) smaller, elsewhere, and leaning to the right by `slant` of their height."""
    return [[[x + size * (px - 0.5 - slant * (py - 0.5)), y + size * (py - 0.5)] for px, py in s] for s in strokes]


# Two ways to write each digit, some in one stroke, some in two.
ROUND = {
    0: [arc(0.5, 0.5, 0.25, 0.35, 90, 450)],
    1: [line((0.5, 0.15), (0.5, 0.85))],
    2: [arc(0.5, 0.35, 0.22, 0.2, 170, -40) + line((0.66, 0.47), (0.28, 0.85), (0.74, 0.85))],
    3: [arc(0.47, 0.33, 0.2, 0.17, 140, -90) + arc(0.47, 0.67, 0.23, 0.18, 90, -140)],
    4: [line((0.35, 0.15), (0.28, 0.55), (0.72, 0.55)), line((0.65, 0.2), (0.62, 0.88))],
    5: [line((0.7, 0.17), (0.36, 0.17), (0.33, 0.45)) + arc(0.45, 0.63, 0.23, 0.21, 110, -140)],
    6: [arc(0.75, 0.55, 0.42, 0.42, 115, 200) + arc(0.5, 0.68, 0.18, 0.17, 180, 540)],
    7: [line((0.25, 0.18), (0.74, 0.18), (0.45, 0.85))],
    8: [arc(0.5, 0.33, 0.17, 0.16, 270, -90), arc(0.5, 0.67, 0.21, 0.18, 90, 450)],
    9: [arc(0.48, 0.34, 0.19, 0.17, 0, 360) + line((0.67, 0.34), (0.6, 0.85))],
}
ANGULAR = {
    0: [arc(0.5, 0.5, 0.18, 0.36, 60, 420)],
    1: [line((0.38, 0.3), (0.52, 0.15), (0.52, 0.85))],
    2: [line((0.28, 0.3), (0.4, 0.18), (0.6, 0.18), (0.68, 0.34), (0.3, 0.82), (0.72, 0.8))],
    3: [line((0.3, 0.2), (0.66, 0.2), (0.46, 0.45)) + arc(0.44, 0.65, 0.24, 0.2, 85, -140)],
    4: [line((0.58, 0.12), (0.25, 0.6), (0.78, 0.6)), line((0.6, 0.4), (0.6, 0.88))],
    5: [line((0.36, 0.2), (0.36, 0.48)) + arc(0.46, 0.66, 0.22, 0.19, 120, -130), line((0.36, 0.2), (0.7, 0.18))],
    6: [line((0.6, 0.12), (0.36, 0.5)) + arc(0.5, 0.66, 0.17, 0.19, 150, 500)],
    7: [line((0.25, 0.2), (0.72, 0.2), (0.42, 0.86)), line((0.38, 0.52), (0.68, 0.5))],
    8: [
        arc(0.5, 0.33, 0.16, 0.17, 60, 270) + arc(0.5, 0.68, 0.2, 0.18, 90, -270) + arc(0.5, 0.33, 0.16, 0.17, -90, 60)
    ],
    9: [arc(0.5, 0.35, 0.2, 0.2, 30, 390) + arc(0.3, 0.4, 0.4, 0.5, 10, -60)],
}
# Each digit twice: large in the middle, and small, off the middle and slanted.
DRAWN = [(digit, placed(strokes, 0.5, 0.5, 1.0)) for digit, strokes in ROUND.items()]
DRAWN += [
    (digit, placed(strokes, 0.3 + 0.04 * digit, 0.66 - 0.03 * digit, 0.3 + 0.03 * digit, 0.04 * (digit % 4)))
    for digit, strokes in ANGULAR.items()
]
