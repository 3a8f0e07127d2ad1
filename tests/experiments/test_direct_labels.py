"""Labels at the ends of lines: in their colors and order, and never one over another."""

import numpy as np
import pytest
from matplotlib.text import Text

from pyro_vd.experiments.common.direct_labels import label_lines, spread
from pyro_vd.experiments.common.plotting import plt


@pytest.fixture
def axis():
    figure, axis = plt.subplots()
    yield axis
    plt.close(figure)


@pytest.mark.parametrize("places", [[0.5], [0.5, 0.5, 0.5], [0.9, 0.1, 0.85, 0.12, 0.11], [0.1, 0.5, 0.9]])
def test_places_keep_their_order_their_distance_and_their_mean(places):
    gap = 0.1
    spaced = spread(np.array(places), gap)
    order = np.argsort(places, kind="stable")
    assert (np.diff(spaced[order]) >= gap - 1e-12).all()
    assert spaced.mean() == pytest.approx(np.mean(places))


def test_places_that_are_far_apart_stay():
    assert spread(np.array([0.9, 0.2, 0.5]), 0.1).tolist() == pytest.approx([0.9, 0.2, 0.5])


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_every_labeled_line_has_its_name_in_its_color_at_its_end(axis, scale):
    axis.plot([1, 2], [5, 100], color="red", label="high")
    axis.plot([1, 2], [6, 99.9], color="blue", label="nearly")
    axis.plot([1, 2], [7, 1], color="green", label="low")
    axis.plot([1, 2], [1, 1], color="black")
    axis.set_yscale(scale)
    label_lines(axis)
    found = {text.get_text(): text for text in axis.texts}
    assert {name: text.get_color() for name, text in found.items()} == {
        "high": "red", "nearly": "blue", "low": "green"
    }  # fmt: skip
    assert found["low"].xy == (2, 1)
    axis.get_figure().canvas.draw()
    low, nearly, high = (Text.get_window_extent(found[name]) for name in ("low", "nearly", "high"))  # without lines
    assert low.y1 < nearly.y0
    assert nearly.y1 < high.y0 + 1  # pixel
    assert axis.get_window_extent().x1 < min(label.x0 for label in (low, high))


def test_an_axis_without_labeled_lines_stays_as_it_is(axis):
    axis.plot([1, 2], [1, 2])
    label_lines(axis)
    assert not axis.texts
