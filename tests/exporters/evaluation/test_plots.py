from __future__ import annotations

import re
from xml.etree import ElementTree

from shortlist_exporters.evaluation.plots import Point, difference_plot, line_plot

SVG = "{http://www.w3.org/2000/svg}"


def line(*ys: float) -> list[Point]:
    return [
        Point(x=x, y=y, low=y - 0.1, high=y + 0.1) for x, y in zip((1, 10, 100), ys, strict=True)
    ]


def test_points_stand_where_their_numbers_are() -> None:
    plot = ElementTree.fromstring(
        line_plot({"a": line(0, 0.5, 1)}, x_label="k", y_label="hit", logarithmic=True)
    )

    circles = plot.findall(f"{SVG}circle")
    xs = [float(one.attrib["cx"]) for one in circles]
    ys = [float(one.attrib["cy"]) for one in circles]
    assert abs((xs[1] - xs[0]) - (xs[2] - xs[1])) < 0.2  # tenfold each
    assert abs((ys[0] - ys[1]) - (ys[1] - ys[2])) < 0.2
    assert ys[0] > ys[1]  # upwards
    assert len(plot.findall(f"{SVG}polygon")) == 1


def test_names_are_escaped_and_do_not_stand_on_one_another() -> None:
    plot = line_plot(
        {"<b>&": line(0, 0.5, 1), "second": line(0, 0.5, 1), "third": line(0, 0.5, 0.99)},
        x_label="k",
        y_label="hit",
    )

    names = [t for t in ElementTree.fromstring(plot).iter(f"{SVG}text") if "class" in t.attrib]
    assert [name.text for name in names] == ["<b>&", "second", "third"]
    places = sorted(float(name.attrib["y"]) for name in names)
    assert all(b - a >= 14 for a, b in zip(places, places[1:], strict=False))


def test_single_number_is_a_plot_too() -> None:
    points = [Point(x=3.0, y=3.0)]

    assert "<circle" in line_plot({"one": points}, x_label="x", y_label="y", diagonal=True)
    assert line_plot({}, x_label="x", y_label="y") == ""


def test_differences_stand_on_their_side_of_nothing() -> None:
    plot = difference_plot({"up": Point(x=0.2, y=0, low=0.1, high=0.3), "down": Point(x=-0.1, y=0)})

    (zero,) = re.findall(r'class="guide" x1="([\d.]+)"', plot)
    up, down = re.findall(r'cx="([\d.]+)"', plot)
    assert float(down) < float(zero) < float(up)
    assert difference_plot({}) == ""
