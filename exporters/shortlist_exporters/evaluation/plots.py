"""Plots as SVG, drawn by hand: a page with them needs no script and nothing from elsewhere.

Colours are CSS variables of the page, so that plots are light or dark as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 640, 320
LEFT, RIGHT, TOP, BOTTOM = 56, 150, 14, 42
TICKS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A point with the bounds of its interval, None where it has none."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


def line_plot(
    series: Mapping[str, Sequence[Point]],
    *,
    x_label: str,
    y_label: str,
    logarithmic: bool = False,
    diagonal: bool = False,
) -> str:
    """Return lines through points, with a band for the intervals of each, and their names beside
    the ends.

    Args:
        series: By name, at most eight; points by rising x.
        x_label: What x is.
        y_label: What y is.
        logarithmic: Whether x is on a logarithmic scale; it is above 0 then.
        diagonal: Whether a line is drawn where x equals y; both axes then have the same range.
    """
    points = [point for line in series.values() for point in line]
    if not points:
        return ""
    xs = [point.x for point in points]
    ys = [edge for point in points for edge in (point.y, point.low, point.high) if edge is not None]
    if diagonal:
        xs = ys = [*xs, *ys]
    x_axis = _Axis.over(xs, begin=LEFT, end=WIDTH - RIGHT, logarithmic=logarithmic)
    y_axis = _Axis.over(
        ys if diagonal else [0.0, *ys], begin=HEIGHT - BOTTOM, end=TOP, logarithmic=False
    )
    parts = [_frame(x_axis, y_axis, sorted(set(xs)) if logarithmic else None, x_label, y_label)]
    if diagonal:
        low, high = min(xs), max(xs)
        parts.append(
            f'<line class="guide" x1="{x_axis(low):.1f}" y1="{y_axis(low):.1f}" '
            f'x2="{x_axis(high):.1f}" y2="{y_axis(high):.1f}"/>'
        )
    ends = _apart([y_axis(line[-1].y) if line else 0.0 for line in series.values()])
    for number, ((name, line), end) in enumerate(zip(series.items(), ends, strict=True)):
        if line:
            parts.append(_line(name, line, number, x_axis, y_axis, end))
    return _svg("".join(parts), HEIGHT, f"{y_label} by {x_label}")


def difference_plot(rows: Mapping[str, Point]) -> str:
    """Return a row for each figure: its relative difference x with its interval (low to high), and
    where nothing differs.
    """
    if not rows:
        return ""
    edges = [edge for p in rows.values() for edge in (p.x, p.low, p.high) if edge is not None]
    height = TOP + BOTTOM + 22 * len(rows)
    axis = _Axis.over([0.0, *edges], begin=LEFT + 100, end=WIDTH - 20, logarithmic=False)
    bottom = height - BOTTOM
    parts = [
        f'<line class="guide" x1="{axis(0):.1f}" y1="{TOP}" x2="{axis(0):.1f}" y2="{bottom}"/>'
    ]
    parts += [
        _text(axis(tick), bottom + 18, f"{100 * tick:+g} %", "middle") for tick in axis.ticks()
    ]
    parts.append(_text((axis.begin + axis.end) / 2, height - 6, "difference, relative", "middle"))
    for number, (name, point) in enumerate(rows.items()):
        y = TOP + 22 * number + 11
        parts.append(_text(LEFT + 90, y + 4, name, "end"))
        low = point.x if point.low is None else point.low
        high = point.x if point.high is None else point.high
        parts.append(
            f'<line class="line c0" x1="{axis(low):.1f}" y1="{y}" x2="{axis(high):.1f}" y2="{y}"/>'
            f'<circle class="dot c0" cx="{axis(point.x):.1f}" cy="{y}" r="4"/>'
        )
    return _svg("".join(parts), height, "difference of each figure")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Axis:
    low: float
    high: float
    begin: float
    end: float
    logarithmic: bool

    @classmethod
    def over(cls, values: Sequence[float], *, begin: float, end: float, logarithmic: bool) -> _Axis:
        low, high = min(values), max(values)
        if low == high:
            low, high = low - 0.5, high + 0.5
            if logarithmic:
                low, high = max(low, high / 2), high
        return cls(low=low, high=high, begin=begin, end=end, logarithmic=logarithmic)

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return self.begin + (value - low) / (high - low) * (self.end - self.begin)

    def ticks(self) -> list[float]:
        """Return some round numbers within the axis."""
        rough = (self.high - self.low) / TICKS
        scale = 10.0 ** math.floor(math.log10(rough))
        width = next(one * scale for one in (1, 2, 5, 10) if one * scale >= rough)
        first = math.ceil(self.low / width)
        return [n * width for n in range(first, math.floor(self.high / width + 1e-9) + 1)]


def _frame(
    x_axis: _Axis, y_axis: _Axis, x_ticks: Sequence[float] | None, x_label: str, y_label: str
) -> str:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for tick in y_axis.ticks():
        y = y_axis(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>')
        parts.append(_text(LEFT - 6, y + 4, f"{tick:g}", "end"))
    ticks = x_axis.ticks() if x_ticks is None else x_ticks
    parts += [_text(x_axis(tick), bottom + 16, f"{tick:g}", "middle") for tick in ticks]
    parts.append(_text((LEFT + right) / 2, HEIGHT - 6, x_label, "middle"))
    parts.append(
        f'<text transform="translate(14 {(TOP + bottom) / 2:.0f}) rotate(-90)" '
        f'text-anchor="middle">{escape(y_label)}</text>'
    )
    return "".join(parts)


def _line(
    name: str, line: Sequence[Point], number: int, x_axis: _Axis, y_axis: _Axis, end: float
) -> str:
    colour = f"c{number % 8}"
    path = " ".join(f"{x_axis(p.x):.1f},{y_axis(p.y):.1f}" for p in line)
    parts = []
    bounds = [(p.x, p.low, p.high) for p in line if p.low is not None and p.high is not None]
    if len(bounds) == len(line) > 1:
        edge = [f"{x_axis(x):.1f},{y_axis(low):.1f}" for x, low, _ in bounds]
        edge += [f"{x_axis(x):.1f},{y_axis(high):.1f}" for x, _, high in reversed(bounds)]
        parts.append(f'<polygon class="band {colour}" points="{" ".join(edge)}"/>')
    parts.append(f'<polyline class="line {colour}" points="{path}"/>')
    parts += [
        f'<circle class="dot {colour}" cx="{x_axis(p.x):.1f}" cy="{y_axis(p.y):.1f}" r="3">'
        f"<title>{escape(name)}: {p.y:.4f} at {p.x:g}</title></circle>"
        for p in line
    ]
    parts.append(
        f'<text class="name {colour}" x="{x_axis(line[-1].x) + 8:.1f}" y="{end + 4:.1f}">'
        f"{escape(name)}</text>"
    )
    return "".join(parts)


def _apart(places: Sequence[float], distance: float = 15.0) -> list[float]:
    """Return places for names that would stand on one another, moved apart downwards and then up
    from the bottom.
    """
    order = sorted(range(len(places)), key=lambda at: places[at])
    moved = list(places)
    for earlier, later in zip(order, order[1:], strict=False):
        moved[later] = max(moved[later], moved[earlier] + distance)
    limit = HEIGHT - BOTTOM + distance
    for at in reversed(order):
        moved[at] = min(moved[at], limit)
        limit = moved[at] - distance
    return moved


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(content: str, height: float, label: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}" '
        f'xmlns="http://www.w3.org/2000/svg">{content}</svg>'
    )
