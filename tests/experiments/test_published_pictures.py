"""Points are means and published numbers, and no label covers another."""

from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from matplotlib.text import Text

from pyro_vd.experiments.benchmarks import compact, published_pictures
from pyro_vd.experiments.benchmarks.published_pictures import draw_bytes, draw_weights, find_stars
from pyro_vd.experiments.common.measures import COMPRESSION_KEYS
from pyro_vd.experiments.common.records import read_records
from pyro_vd.experiments.common.store import Store

EXPERIMENTS = Path(compact.__file__).parent.parent
RUNS = Store(EXPERIMENTS / "results" / "mnist_compress").runs(COMPRESSION_KEYS)
FILES = read_records(EXPERIMENTS / "benchmarks" / "results" / "compact", compact.REQUIRED)


@pytest.fixture
def figures(monkeypatch):
    """The figures that are drawn, instead of their files."""
    drawn = []
    monkeypatch.setattr(published_pictures, "save_figure", lambda figure, path: drawn.append(figure))
    yield drawn
    for figure in drawn:
        plt.close(figure)


@pytest.mark.parametrize(("draw", "data"), [(draw_weights, RUNS), (draw_bytes, FILES)])
def test_labels_cover_nothing_and_every_point_lies_inside(figures, tmp_path, draw, data):
    draw(data, tmp_path / "picture.png")
    figures[0].canvas.draw()
    assert [axis.get_title() for axis in figures[0].axes] == ["lenet300 on MNIST", "lenet5 on MNIST"]
    for axis in figures[0].axes:
        boxes = [Text.get_window_extent(text) for text in axis.texts]
        assert len(boxes) >= 5
        assert [box.count_overlaps(boxes) for box in boxes] == [1] * len(boxes)
        (low, high), (bottom, top) = axis.get_xlim(), axis.get_ylim()
        for line in axis.lines:
            for x, y in line.get_xydata():
                assert low < x < high
                assert bottom < y < top or line.get_marker() in "_|"  # ends of bars


def stars_of(axis):
    return {tuple(line.get_xydata()[0]) for line in axis.lines if line.get_marker() == "*"}


def test_stars_are_published_numbers(figures, tmp_path):
    draw_bytes(FILES, tmp_path / "picture.png")
    _, lenet5 = figures[0].axes
    assert {(3030.0, 0.69), (1520.0, 0.96), (1140.0, 0.98)} <= {(x, round(y, 9)) for x, y in stars_of(lenet5)}
    assert {(44_000.0, 0.74), (44_000.0, 0.8)} <= {(x, round(y, 9)) for x, y in stars_of(lenet5)}  # of one name
    draw_weights(RUNS, tmp_path / "picture.png")
    lenet300, _ = figures[1].axes
    assert (68.0, 1.92) in {(x, round(y, 9)) for x, y in stars_of(lenet300)}
    assert not any(y > 3 for _, y in stars_of(lenet300))  # 100x at 3.2 % is no rival


def test_a_result_of_several_sources_is_one_star():
    """Two papers report dynamic network surgery with the same numbers."""
    names = [star.method for star in find_stars("mnist", "lenet300", "compression")]
    assert names.count("dynamic network surgery") == 1
    assert "none" not in names


def test_marks_are_means_over_seeds(figures, tmp_path):
    def record(seed, *places):
        rows = [{"tolerance": nats, "epochs": 2, "bytes": size, "test_error": error} for nats, size, error in places]
        rows += [{"tolerance": 1e-3, "epochs": 0, "bytes": 9000, "test_error": 0.02}]  # not trained on the grid
        return {"network": "lenet300", "scheme": "sparse", "training": "short", "seed": seed, "rows": rows}

    records = [
        record(0, (2e-3, 3000, 0.018), (1e-3, 3600, 0.0170)),
        record(1, (2e-3, 3200, 0.020), (1e-3, 4000, 0.0174)),
    ]
    tuning = {**record(0, (2e-3, 100, 0.018)), "validation": 300}  # held-out images: not for the picture
    draw_bytes([tuning, *records], tmp_path / "picture.png")
    (axis,) = figures[0].axes
    (line,) = [line for line in axis.lines if len(line.get_xydata()) == 2 and line.get_marker() == "None"]
    assert line.get_xydata().tolist() == [pytest.approx([3800, 1.72]), pytest.approx([3100, 1.9])]
    assert "sparse (2)" in [text.get_text() for text in axis.texts]
