"""The report holds what its records say, refuses what is no run, and a browser draws it, on a desk and on a phone."""

import json
import os
import re
import shutil

import pytest

from pyro_vd.errors import UserError
from pyro_vd.experiments import mnist_compress, report
from pyro_vd.experiments.common.records import read_records
from pyro_vd.experiments.mnist_compress import Args
from pyro_vd.experiments.report import main, page
from tests.tiny import Tiny

QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--no-first-run"]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two runs on digits, with the pictures beside them."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(mnist_compress.NETWORKS, "lenet300", Tiny)
        patch.setattr("pyro_vd.experiments.common.training.NETWORKS", {"lenet300": Tiny})
        args = Args(dataset="digits", scheme=("none", "sparse"), epochs=3, engine="eager", out=folder)
        mnist_compress.main(args)
        yield folder


def test_the_page_holds_the_tables_and_every_picture(run):
    main(report.Args(run))
    text = (run / "report.html").read_text()
    for record in read_records(run):
        assert f"{100 * record['test_error']:.2f}" in text
        assert record["revision"] in text
    assert text.count("data:image/png;base64,") == 1 + 2 * 4  # curves; training, filters, heat map, calibration
    assert "no calibration" not in text
    assert not re.search(r'(src|href)="(?!data:|#)', text)  # nothing from elsewhere


def test_one_record_is_a_page_of_its_own(run):
    (record,) = [record for record in read_records(run) if record["scheme"] == "sparse"]
    main(report.Args(run / record["file"]))
    text = (run / record["file"]).with_suffix(".html").read_text()
    assert text.count("<section") == 1
    assert "none on lenet300" not in text


def test_what_is_missing_is_named(run, tmp_path):
    for record in run.glob("*.json"):
        shutil.copy(record, tmp_path)
    text = page(read_records(tmp_path), tmp_path)
    assert text.count("the compressed network is not beside the record") == 2
    assert text.count("no filters and no heatmap") == 2
    for file in run.glob("*.xz"):
        (tmp_path / file.name).write_bytes(b"not a network")
    assert page(read_records(tmp_path), tmp_path).count("no calibration: ") == 2


def test_a_record_without_training_curves_has_a_page(run, tmp_path):
    for record in read_records(run):
        bare = [{key: value for key, value in row.items() if key != "accuracy"} for row in record["history"]]
        (tmp_path / record["file"]).write_text(json.dumps({**record, "history": bare}))
    assert page(read_records(tmp_path), tmp_path).count("no training curves") == 2


def test_a_network_of_ones_own_has_a_page_without_calibration(run, tmp_path):
    """As experiments.compress records it."""
    (record,) = [record for record in read_records(run) if record["scheme"] == "sparse"]
    own = {**record, "network": "package.module:function", "curve": []}
    (tmp_path / record["file"]).write_text(json.dumps(own))
    (file,) = run.glob("*sparse*.xz")
    shutil.copy(file, tmp_path)
    assert "no calibration: a record of &#39;package.module:function&#39;" in page(read_records(tmp_path), tmp_path)


def test_names_from_a_record_are_escaped(run, tmp_path):
    (record, *_) = read_records(run)
    (tmp_path / "x.json").write_text(json.dumps({**record, "scheme": "<script>alert(1)</script>", "deployment": None}))
    edited = [{**one, "deployment": record["deployment"]} for one in read_records(tmp_path)]
    assert "<script>" not in page(edited, tmp_path)


def test_a_folder_without_records_is_refused(tmp_path):
    with pytest.raises(UserError, match="contains no records"):
        main(report.Args(tmp_path))
    with pytest.raises(UserError, match="no such folder"):
        main(report.Args(tmp_path / "nothing"))
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(UserError, match=r"x\.json: lacks"):
        main(report.Args(tmp_path))
    assert not (tmp_path / "report.html").exists()


def test_a_page_needs_a_place_where_it_can_be_written(run, tmp_path):
    (tmp_path / "taken").write_text("in the way")
    for out, message in (
        (tmp_path / "taken" / "x.html", "cannot be written"),
        (tmp_path, "is a folder; give the file"),
    ):
        with pytest.raises(UserError, match=message):
            main(report.Args(run, out=out))


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_a_browser_draws_it(run, width, height):
    browser = shutil.which("chromium")
    if not browser and os.environ.get("PYRO_VD_BROWSER") != "required":
        pytest.skip("no chromium here")
    from playwright.sync_api import sync_playwright

    main(report.Args(run))
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=browser, args=QUIET)
        tab = chromium.new_page(viewport={"width": width, "height": height})
        said: list[str] = []
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: said.append(request.url) if request.url.startswith("http") else None)
        tab.goto((run / "report.html").as_uri())
        drawn = tab.evaluate("[...document.images].map(image => image.complete && image.naturalWidth > 100)")
        wide = tab.evaluate("document.documentElement.scrollWidth")
        chromium.close()
    assert drawn == [True] * 9
    assert said == []
    assert wide == width  # tables and pictures scroll, the page does not
