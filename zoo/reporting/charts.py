"""Numbers as coordinates: what the templates draw as SVG, without a script.

A chart is a plain dictionary in the units of its `width` and `height`; y grows downwards, as in SVG.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

Point = tuple[float, float]
WIDTH, HEIGHT = 460.0, 230.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 12.0, 20.0, 34.0
MOST_DOTS = 60  # points of a line that are marked


def finite(points: Sequence[tuple[float, Any]]) -> list[Point]:
    """Those whose value is a number."""
    return [(x, float(y)) for x, y in points if isinstance(y, int | float) and math.isfinite(y)]


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers that lie in a range, about `count` of them (Heckbert, 1990)."""
    if not high > low:
        return [low]
    rough = (high - low) / max(count - 1, 1)
    size = 10 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough * 0.99)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def number(value: float) -> str:
    """A tick's label: short, and exact enough."""
    if value and (abs(value) >= 1e5 or abs(value) < 1e-3):
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:,.4f}".rstrip("0").rstrip(".")


def line_chart(
    title: str,
    series: Mapping[str, Sequence[tuple[float, Any]]],
    *,
    x_label: str = "",
    bands: Sequence[tuple[float, float, str]] = (),
    floor: float | None = None,
    equal: bool = False,
) -> dict[str, Any] | None:
    """Lines by their label; None where none has a point.

    `bands` are stretches (from, to, label) of the x axis, `floor` a value that the y axis reaches down to at most;
    with `equal` both axes go from 0 to 1.
    """
    lines = {label: found for label, points in series.items() if (found := finite(points))}
    if not lines:
        return None
    xs = [x for points in lines.values() for x, _ in points] + [edge for band in bands for edge in band[:2]]
    ys = [y for points in lines.values() for _, y in points]
    x_range = (0.0, 1.0) if equal else _range(xs)
    y_range = (0.0, 1.0) if equal else _range(ys if floor is None else [*ys, floor], room=0.06)
    across, up = _scales(x_range, y_range)
    whole = not equal and all(float(x).is_integer() for x in xs)
    return {
        "title": title,
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "right": WIDTH - RIGHT,
        "top": TOP,
        "bottom": HEIGHT - BOTTOM,
        "x_label": x_label,
        "x_ticks": [(across(x), number(x)) for x in ticks(*x_range, 7) if not whole or float(x).is_integer()],
        "y_ticks": [(up(y), number(y)) for y in ticks(*y_range)],
        "bands": [(across(low), across(high) - across(low), label) for low, high, label in bands],
        "lines": [_line(place, label, points, across, up) for place, (label, points) in enumerate(lines.items())],
    }


def _line(place: int, label: str, points: list[Point], across: Any, up: Any) -> dict[str, Any]:
    path = " ".join(f"{'ML'[index > 0]}{across(x):.1f} {up(y):.1f}" for index, (x, y) in enumerate(points))
    step = max(1, math.ceil(len(points) / MOST_DOTS))
    dots = [(across(x), up(y), f"{label}: {y:.5g} at {number(x)}") for x, y in points[::step]]
    return {"label": label, "class": f"s{place % 8}", "path": path, "dots": dots, "last": points[-1][1]}


def _range(values: Sequence[float], room: float = 0.0) -> tuple[float, float]:
    low, high = min(values), max(values)
    if low == high:
        spread = abs(low) * 0.1 or 0.5
        return low - spread, high + spread
    return low - room * (high - low), high + room * (high - low)


def _scales(x_range: tuple[float, float], y_range: tuple[float, float]) -> tuple[Any, Any]:
    (left, right), (low, high) = x_range, y_range

    def across(x: float) -> float:
        return LEFT + (x - left) / (right - left) * (WIDTH - LEFT - RIGHT)

    def up(y: float) -> float:
        return HEIGHT - BOTTOM - (y - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    return across, up


def reliability(calibration: Mapping[str, Any], bins: int) -> dict[str, Any]:
    """The reliability diagram: a bar a bin up to its accuracy, its interval, and how many samples are in it."""
    across, up = _scales((0.0, 1.0), (0.0, 1.0))
    most = max(row["samples"] for row in calibration["bins"])
    bars = []
    for row in calibration["bins"]:
        left, right = across(row["bin"] / bins), across((row["bin"] + 1) / bins)
        low, high = row["interval"]
        said = f"{row['samples']:,} samples: confidence {row['confidence']:.3f}, accuracy {row['accuracy']:.3f}"
        bars.append(
            {
                "x": left + 1,
                "width": right - left - 2,
                "y": up(row["accuracy"]),
                "height": up(0) - up(row["accuracy"]),
                "middle": (left + right) / 2,
                "low": up(low),
                "high": up(high),
                "share": row["samples"] / most,
                "said": said,
            }
        )
    empty = line_chart("Reliability", {"": [(0, 0), (1, 1)]}, x_label="confidence", equal=True)
    assert empty is not None
    return empty | {"bars": bars, "diagonal": (across(0), up(0), across(1), up(1))}


def scatter(points: Sequence[Point]) -> dict[str, Any] | None:
    """Predicted against true, with the diagonal of those that are right."""
    found = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    if not found:
        return None
    both = _range([value for point in found for value in point], room=0.04)
    across, up = _scales(both, both)
    chart = line_chart("Predicted against true", {"": [(both[0], both[0]), (both[1], both[1])]}, x_label="true")
    assert chart is not None
    edges = {
        "x_ticks": [(across(x), number(x)) for x in ticks(*both, 7)],
        "y_ticks": [(up(y), number(y)) for y in ticks(*both)],
    }
    dots = [(across(x), up(y)) for x, y in found]
    diagonal = (across(both[0]), up(both[0]), across(both[1]), up(both[1]))
    return chart | edges | {"lines": [], "points": dots, "diagonal": diagonal}


def bars(title: str, values: Sequence[tuple[float, float, float, str]], x_label: str) -> dict[str, Any] | None:
    """A histogram or a row of bars: (from, to, height, what is said of it) each."""
    if not values:
        return None
    x_range = _range([edge for low, high, _, _ in values for edge in (low, high)])
    y_range = (0.0, max(height for _, _, height, _ in values) * 1.05 or 1.0)
    across, up = _scales(x_range, y_range)
    chart = line_chart(title, {"": [(x_range[0], 0.0), (x_range[1], y_range[1])]}, x_label=x_label)
    assert chart is not None
    drawn = [
        (across(low), max(across(high) - across(low) - 0.5, 0.7), up(h), up(0) - up(h), said)
        for low, high, h, said in values
    ]
    edges = {
        "x_ticks": [(across(x), number(x)) for x in ticks(*x_range, 7)],
        "y_ticks": [(up(y), number(y)) for y in ticks(*y_range)],
    }
    return chart | edges | {"lines": [], "columns": drawn}


CELL = 26.0


def confusion(cells: Sequence[Sequence[int]], names: Sequence[str], order: Sequence[int]) -> dict[str, Any]:
    """The confusion matrix as squares: those with samples only, shaded by their share of the true class."""
    place = {index: position for position, index in enumerate(order)}
    support = _support(cells, len(names))
    size = CELL if len(names) <= 40 else 14.0
    longest = min(max((len(name) for name in names), default=1), 18)
    room = 18.0 + 6.6 * longest
    squares = []
    for true, guess, count in cells:
        share = count / support[true]
        said = f"{names[true]} taken for {names[guess]}: {count:,} of {support[true]:,} ({share:.1%})"
        squares.append(
            {
                "x": room + size * place[guess], "y": room + size * place[true], "share": share, "hit": true == guess,
                "count": count, "said": said,
            }
        )  # fmt: skip
    shown = [name if len(name) <= 18 else f"{name[:17]}…" for name in (names[index] for index in order)]
    return {"size": size, "room": room, "side": room + size * len(names) + 2, "squares": squares, "names": shown}


def _support(cells: Sequence[Sequence[int]], classes: int) -> list[int]:
    support = [0] * classes
    for true, _, count in cells:
        support[true] += count
    return support


def confusion_picture(cells: Sequence[Sequence[int]], classes: int, order: Sequence[int]) -> str:
    """The matrix of many classes as a PNG in a data address: a pixel a pair, hits blue, errors red, on nothing."""
    place = np.empty(classes, dtype=np.int64)
    place[np.asarray(order)] = np.arange(classes)
    support = np.maximum(_support(cells, classes), 1)
    found = np.asarray(cells, dtype=np.int64).reshape(-1, 3)
    true, guess, count = found.T
    share = count / support[true]
    picture = np.zeros((classes, classes, 4), dtype=np.uint8)
    colours = np.where((true == guess)[:, None], (46, 116, 220), (222, 62, 62))
    picture[place[true], place[guess], :3] = colours
    picture[place[true], place[guess], 3] = 70 + 185 * np.sqrt(share)
    encoded = io.BytesIO()
    Image.fromarray(picture, "RGBA").quantize(64).save(encoded, "PNG", optimize=True)
    return data_address(encoded.getvalue(), "image/png")


def data_address(content: bytes, kind: str) -> str:
    """Bytes as an address that needs no file."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
