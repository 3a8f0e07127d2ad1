"""The report says what came out, refuses what is no run, and a browser draws it, on a desk and on a phone."""

import html
import os
import re
import shlex
import shutil
from dataclasses import replace

import pytest
import tyro

from pyro_vd.errors import UserError
from pyro_vd.experiments import mnist_compress, report
from pyro_vd.experiments.common import compression, runner
from pyro_vd.experiments.common.outcomes import headlines
from pyro_vd.experiments.common.records import write_record
from pyro_vd.experiments.common.spec import Data
from pyro_vd.experiments.common.store import Run, Store
from pyro_vd.experiments.mnist_compress import Args
from pyro_vd.experiments.report import command_of, main
from tests.tiny import Tiny

QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--no-first-run"]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two runs on digits, with the pictures beside them."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(runner.NETWORKS, "lenet300", Tiny)
        args = Args(
            dataset="digits", scheme=("none", "sparse"), epochs=3, threshold=-5.0, engine="eager", out=folder
        )  # fmt: skip
        mnist_compress.main(args)
        yield folder


def page(runs):
    return report.page(runs, "pyro-vd report x")


def copied(runs, folder):
    """The runs with nothing beside their records."""
    return [replace(run, path=folder / run.path.name) for run in runs]


def changed(run, **entries):
    return replace(run, record={**run.record, **entries})


def test_the_page_holds_the_tables_and_every_picture(run):
    main(report.Args(run))
    text = (run / "report.html").read_text()
    for one in Store(run).runs():
        assert f"{100 * one['test_error']:.2f}" in text
        assert one["revision"] in text
    assert text.count("data:image/png;base64,") == 1 + 2 * 4  # curves; training, filters, heat map, calibration
    assert "no calibration" not in text
    assert not re.search(r'(src|href)="(?!data:|#)', text)  # nothing from elsewhere


def test_it_opens_with_what_came_out_in_a_sentence_and_numbers(run, capsys):
    main(report.Args(run))
    text = (run / "report.html").read_text()
    sparse = next(one for one in Store(run).runs() if one.spec.method == "sparse")
    (sentence,) = re.findall("<h1>(.*)</h1>", text)
    assert sentence in capsys.readouterr().out
    before = text[: text.index("<h2")]
    assert sentence.startswith(f"LeNet-300-100 on {sparse['dataset']} keeps ")
    assert f"weights / non-zero weights, of {sparse['weights']:,}" in before
    assert f"pyro-vd report</span> <span>{run}" in before.replace("<span>pyro-vd</span> <span>report", "pyro-vd report")
    assert re.search(r"Page of \d{4}-\d\d-\d\d", before)


def test_the_result_is_the_smallest_network_with_about_the_lowest_error(run):
    none, sparse = sorted(Store(run).runs(), key=lambda one: one.spec.method)
    none = changed(none, test_error=0.016, compression=1.0)

    def said(**entries):
        (headline,) = headlines([none, changed(sparse, **entries)])
        return headline

    near = said(test_error=0.0191, compression=118.2)
    assert near.sentence == f"LeNet-300-100 on {none['dataset']} keeps 1 of 118 weights at 1.91 % error (sparse)."
    assert ("118x", f"weights / non-zero weights, of {sparse['weights']:,}") in near.numbers
    assert ("1.60 %", "error without pruning (none)") in near.numbers
    assert near.choice.startswith("Of 2 results, this is the smallest network")
    assert near.choice.endswith("at most 0.5 points above the lowest, 1.60 %.")
    far = said(test_error=0.05, compression=118.2)
    where = f"LeNet-300-100 on {none['dataset']}"
    assert far.sentence == f"{where}: no pruned network is within 0.5 points of the lowest error, 1.60 % (none)."
    assert far.choice == ""
    assert "keeps 1 of 4.2 weights" in said(test_error=0.0191, compression=4.2).sentence
    assert "no pruned network" in said(test_error=0.016, compression=None).sentence  # an empty network is none
    assert "keeps all weights at 1.60 % error (none)" in headlines([none])[0].sentence


def test_seeds_are_averaged_and_runs_that_diverged_are_left_out(run):
    (sparse,) = [one for one in Store(run).runs() if one.spec.method == "sparse"]
    good = changed(sparse, test_error=0.02, compression=100.0)
    other = changed(sparse, test_error=0.03, compression=50.0)
    lost = changed(sparse, diverged="loss is nan", test_error=None)
    (headline,) = headlines([good, other, lost])
    assert headline.sentence.endswith("keeps 1 of 75 weights at 2.50 % error (sparse, mean of 2 runs).")
    assert ("2.50 ± 0.71 %", "test error") in headline.numbers
    (headline,) = headlines([lost])
    assert headline.sentence.endswith(": every run diverged.")
    assert headline.numbers == ()
    (headline,) = headlines([changed(good, compression=None)])
    assert "keeps no weight at 2.00 % error" in headline.sentence


def test_every_network_and_dataset_has_a_sentence(run):
    first, second = Store(run).runs()
    assert len(headlines([first, changed(second, dataset="mnist")])) == 2
    text = page([first, changed(second, dataset="mnist")])
    assert text.count(" keeps ") >= 2 + 1  # and the title of the page


def test_the_command_makes_the_same_runs(run):
    for one in Store(run).runs():
        words = shlex.split(command_of([one]))
        assert words[:2] == ["pyro-vd", "mnist_compress"]
        args = tyro.cli(Args, args=words[2:])
        protocol = mnist_compress.choose_protocol(args, "digits")
        (spec,) = compression.make_specs(args, protocol, Data(name=args.dataset), args.network)
        assert spec == one.spec
    assert command_of([changed(one, experiment="compress")]) == ""


def test_many_runs_have_a_contents_list_and_one_has_none(run):
    runs = Store(run).runs()
    text = page(runs)
    names = re.findall(r'<a href="#run\d+">(.*?)</a>: .* %, ', text)
    assert len(names) == len(set(names)) == 2
    assert all(f'id="{link}"' in text for link in re.findall('href="#(.*?)"', text))
    assert "<nav" not in page(runs[:1])


def test_wide_tables_can_be_scrolled_and_say_so(run):
    text = page(Store(run).runs())
    assert text.count("<table>") == len(
        re.findall(r'class="wide" tabindex="0" role="region" aria-label="[^"]+"><table>', text)
    )
    assert "no-repeat scroll" in text  # the shadow at the side


def test_a_scheme_has_the_color_of_its_pictures(run):
    text = page(Store(run).runs())
    for method in ("none", "sparse"):
        assert f'<i class="scheme" style="background: {report.color_of(method)}"></i>{method}' in text


def test_one_record_is_a_page_of_its_own(run):
    (sparse,) = [one for one in Store(run).runs() if one.spec.method == "sparse"]
    main(report.Args(sparse.path))
    text = sparse.path.with_suffix(".html").read_text()
    assert text.count("<section") == 1
    assert ": none, seed" not in text


def test_there_are_pictures_only_for_what_exists(run, tmp_path):
    runs = copied(Store(run).runs(), tmp_path)
    text = page(runs)
    assert text.count("data:image/png;base64,") == 1 + 2  # curves, training
    assert "Strongest units" not in text
    assert text.count("no calibration: the compressed network is not beside the record") == 2
    for one in runs:
        one.beside(".safetensors.xz").write_bytes(b"not a network")
    assert page(runs).count("no calibration: ") == 2


def test_a_record_without_errors_by_epoch_has_a_page_without_curves(run, tmp_path):
    runs = copied(Store(run).runs(), tmp_path)
    bare = [
        changed(one, history=[{key: value for key, value in row.items() if key != "error"} for row in one["history"]])
        for one in runs
    ]
    assert "<h3>Training</h3>" in page(runs)
    assert "<h3>Training</h3>" not in page(bare)


def test_other_images_give_no_calibration(run):
    runs = [changed(one, data_sha256="0" * 64) for one in Store(run).runs()]
    assert page(runs).count("with other images was found") == 2


def test_a_network_of_ones_own_has_a_page_without_calibration(run, tmp_path):
    """As experiments.compress records it."""
    (sparse,) = [one for one in Store(run).runs() if one.spec.method == "sparse"]
    own = Run(replace(sparse.spec, network="package.module:function"), {**sparse.record, "curve": []}, sparse.path)
    text = html.unescape(page([changed(own, test_error_dense=0.25)]))
    assert "no calibration: a spec of the network 'package.module:function'" in text
    assert "<h1>package.module:function on " in text
    assert "25.00 %</b><span>error of the network before" in text


def test_names_from_a_record_are_escaped(run, tmp_path):
    (one, *_) = copied(Store(run).runs(), tmp_path)
    assert "<script>" not in page([changed(one, dataset="<script>alert(1)</script>", protocol="<script>")])


def test_a_folder_without_records_is_refused(tmp_path):
    with pytest.raises(UserError, match="contains no records"):
        main(report.Args(tmp_path))
    with pytest.raises(UserError, match="no such folder"):
        main(report.Args(tmp_path / "nothing"))
    write_record(tmp_path / "x.json", {"seed": 1})
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
        numbers = tab.evaluate("document.querySelector('.numbers').getBoundingClientRect().bottom")
        chromium.close()
    assert drawn == [True] * 9
    assert said == []
    assert wide == width  # tables and pictures scroll, the page does not
    assert numbers < height  # what came out is seen at once
