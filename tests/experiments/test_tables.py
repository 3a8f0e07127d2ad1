"""Tables from hand-made records: what is averaged, what is counted, and beside what."""

import pytest

from pyro_vd.experiments.common.published import PUBLISHED
from pyro_vd.experiments.common.tables import (
    COMPRESSION_HEADER,
    DEPLOYMENT_HEADER,
    compression_table,
    deployment_table,
    linked_compression_table,
    publish,
    to_markdown,
    units,
)


def record(seed=0, **changes):
    return {
        "network": "lenet300", "scheme": "sparse", "dataset": "mnist", "protocol": "headline", "epochs": 200,
        "device": "cpu (2 cores, x86_64)", "seed": seed, "diverged": False, "test_error": 0.02, "test_error_mc": 0.01,
        "compression": 50.0, "file": f"s{seed}.json", **changes,
    }  # fmt: skip


def diverged(seed=9, **changes):
    return record(seed, diverged=True, test_error=None, test_error_mc=None, compression=None, **changes)


def rows(*records):
    header, *found = compression_table(records)
    assert header == COMPRESSION_HEADER
    return [dict(zip(COMPRESSION_HEADER, row, strict=True)) for row in found]


def test_every_record_is_linked_and_addresses_stand_below():
    table, addresses = linked_compression_table([record(0), record(1, file="a=1__b-s1.json")], "some/runs").split(
        "\n\n"
    )
    assert "[seed 0][runs 1], [seed 1][runs 2] |" in table
    assert addresses.splitlines() == ["[runs 1]: some/runs/s0.json", "[runs 2]: some/runs/a%3D1__b-s1.json"]


def test_one_run_has_no_deviation():
    (row,) = rows(record(test_error=0.0192, compression=68.04, test_error_mc=0.0188))
    assert row["error %"] == "1.92"
    assert row["MC error %"] == "1.88"
    assert row["compression"] == "68.0x"
    assert row["n"] == "1"


def test_several_runs_have_mean_sample_deviation_and_n():
    """Sample standard deviation: of 1, 2, 3 it is 1, the population's would be 0.82."""
    (row,) = rows(*(record(i, test_error=0.01 * (i + 1), compression=40.0 + 10 * i) for i in range(3)))
    assert row["error %"] == "2.00 ± 1.00"
    assert row["compression"].replace("x", "") == "50.0 ± 10.0"
    assert row["n"] == "3"


def test_a_diverged_run_is_counted_and_not_averaged():
    (row,) = rows(record(0, test_error=0.01), diverged(1), record(2, test_error=0.03), diverged(3))
    assert row["error %"].startswith("2.00 ± 1.41")
    assert row["compression"].startswith("50.0")
    assert row["n"] == "2 (+2 diverged)"


def test_runs_that_all_diverged_still_have_a_row():
    (row,) = rows(diverged(0), diverged(1))
    assert (row["error %"], row["compression"], row["n"]) == ("-", "-", "0 (+2 diverged)")


def test_an_empty_network_is_called_that():
    """Its ratio is infinite: None in the record, and no average with finite ones."""
    (row,) = rows(record(0), record(1, compression=None))
    assert row["compression"] == "empty network"
    assert row["n"] == "2"


@pytest.mark.parametrize(
    "other",
    [
        {"network": "lenet5"},
        {"scheme": "none"},
        {"dataset": "digits (28x28)"},
        {"protocol": "variant"},
        {"device": "H"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_what_differs_is_never_averaged(other):
    found = rows(record(0), record(1, **other))
    assert [row["n"] for row in found] == ["1", "1"]


def test_the_number_of_a_cpus_cores_makes_no_other_row():
    (row,) = rows(record(0), record(1, device="cpu (16 cores, x86_64)"))
    assert row["n"] == "2"


@pytest.mark.parametrize("entry", PUBLISHED, ids=lambda entry: f"{entry.network}-{entry.scheme}-{entry.kind}")
def test_published_numbers_stand_beside_the_same_dataset_only(entry):
    shown = f"{entry.compression:g}x at {100 * entry.error:.2f} % ({entry.kind})"
    theirs = "cifar10" if entry.network.startswith("vgg") else "mnist"
    same = {"network": entry.network, "scheme": entry.scheme}
    assert shown in rows(record(dataset=theirs, **same))[0]["published"]
    others = ["digits (28x28)", "fashion_mnist", f"{theirs} (validation 5000)", theirs.upper(), f"{theirs}_like"]
    for dataset in [*others, *({"mnist", "cifar10"} - {theirs})]:
        assert rows(record(dataset=dataset, **same))[0]["published"] == "-"
    assert shown not in rows(record(dataset=theirs, network=entry.network, scheme="bernoulli"))[0]["published"]


def test_published_numbers_are_the_papers():
    """Typed from Molchanov et al. 2017, table 1, and the forerunner's README; errors are fractions."""
    found = {(p.network, p.scheme, p.kind): (p.error, p.compression) for p in PUBLISHED}
    assert found["lenet300", "sparse", "paper"] == (0.0192, 68)
    assert found["lenet5", "sparse", "paper"] == (0.0075, 280)
    assert found["lenet300", "none", "paper"] == (0.0164, 1)
    assert found["lenet5", "none", "paper"] == (0.0080, 1)
    assert found["lenet300", "sparse", "reference repository"] == (0.0170, 46.25)
    assert found["lenet300", "hierarchical", "reference repository"] == (0.0173, 45.58)
    assert found["lenet5", "sparse", "reference repository"] == (0.0070, 61.39)
    plot = {(p.network, p.scheme): (p.error, p.compression) for p in PUBLISHED if p.kind == "paper, read off a plot"}
    assert plot == {
        ("vgg x 0.25", "none"): (0.131, 1),
        ("vgg x 0.25", "sparse"): (0.135, 5.6),
        ("vgg x 0.5", "none"): (0.082, 1),
        ("vgg x 0.5", "sparse"): (0.085, 13.7),
        ("vgg x 1", "none"): (0.073, 1),
        ("vgg x 1", "sparse"): (0.073, 48),
    }
    assert len(found) == len(PUBLISHED) == 7 + len(plot)
    assert all(p.source for p in PUBLISHED)


def test_a_row_says_what_differs():
    (row,) = rows(record(dataset="digits (28x28)", epochs=3, protocol="variant of digits-short: epochs=3"))
    for part in ("digits (28x28)", "3 epochs", "cpu", "variant of digits-short: epochs=3"):
        assert part in row["what differs"]


def test_markdown_is_a_table():
    lines = to_markdown(compression_table([record(), record(scheme="hierarchical")])).splitlines()
    assert len(lines) == 4
    assert len({len(line) for line in lines}) == 1
    assert {line.count("|") for line in lines} == {len(COMPRESSION_HEADER) + 1}
    assert set(lines[1]) == set("|- ")


def test_no_records_is_a_header():
    assert compression_table([]) == [COMPRESSION_HEADER]
    assert len(to_markdown(compression_table([])).splitlines()) == 2


def deployed(seed=0, error=0.02, **forms):
    made = {name: {"bytes": size, "test_error": wrong} for name, (size, wrong) in forms.items()}
    architecture = {"fc1": [400, 100], "fc2": [100, 50], "fc3": [50, 10]}
    numbers = {"architecture": architecture, "parameters": 50, "dense_parameters": 200, "dense_bytes": 1000}
    layers = {"fc1.weight": 0.98 + 0.01 * seed, "fc2.weight": 0.9}
    return record(seed, test_error=error, sparsity_per_layer=layers, deployment={**numbers, "forms": made})


def deployment_rows(*records, timed=()):
    header, *found = deployment_table(records, timed)
    assert header == DEPLOYMENT_HEADER
    return [dict(zip(DEPLOYMENT_HEADER, row, strict=True)) for row in found]


def test_sizes_are_ratios_and_errors_stand_where_they_are_others():
    (row,) = deployment_rows(deployed(float32=(100, 0.02), int8=(40, 0.021)))
    assert (row["zeros"], row["parameters"], row["units (first seed)"]) == ("50.0x", "4.0x", "400-100-50")
    assert (row["bytes, float32"], row["bytes, int8"], row["bytes, posterior"]) == ("10.0x", "25.0x at 2.10 %", "-")


def test_sizes_of_several_seeds_are_averaged():
    (row,) = deployment_rows(deployed(0, float32=(100, 0.02)), deployed(1, 0.04, float32=(50, 0.04)), record(2))
    assert row["bytes, float32"] == "15.0 ± 7.1x"
    assert row["n"] == "2"
    assert row["zeros per layer %"] == "98.5, 90.0"
    assert row["trained on"] == "cpu"


def test_times_stand_beside_the_network_that_was_timed():
    def timed(file, *faster):
        sizes = {size: {"times_faster": times} for size, times in zip(("1", "256"), faster, strict=True)}
        columns = {"dense": {}, "shrunk": {"8": {"times_faster": 9.0}, **sizes}}
        return {"trained": file, "test_error": 0.02, "compression": 50.0, "columns": columns}

    def cells(*times):
        rows = deployment_rows(deployed(0), deployed(1), timed=times)
        return [row["times faster on a CPU, batch 1 and 256"] for row in rows]

    assert cells() == ["-"]
    assert cells(timed("s1.json", 1.5, 3.0), timed("another.json", 9.0, 9.0)) == ["1.5x, 3.0x (1 of 2)"]
    assert cells(timed("s0.json", 1.5, 2.0), timed("s1.json", 2.5, 2.0)) == ["2.0 ± 0.7x, 2.0 ± 0.0x"]
    assert cells({**timed("s1.json", 1.5, 3.0), "compression": 49.0}) == ["-"]  # of a run before this one
    other = timed("s1.json", 1.5, 3.0)
    del other["columns"]["shrunk"]["256"]
    assert cells(other) == ["-"]


def test_units_are_written_as_papers_do():
    lenet5 = {"conv1": (1, 20), "conv2": (20, 50), "fc1": (800, 500), "fc2": (500, 10)}
    assert units(lenet5) == "20-50-800-500"
    assert units({"fc1": (784, 300), "fc2": (300, 100), "fc3": (100, 10)}) == "784-300-100"
    assert units({"fc1": (784, 30), "fc2": (20, 10)}) == "784-30-20"


def test_a_cell_ends_at_no_bar_or_line_break_of_its_own():
    table = to_markdown([("name", "n"), ("a|b\nc", "1")])
    assert table.splitlines()[-1] == r"| a\|b c | 1 |"
    assert len(table.splitlines()) == 3


def test_a_table_is_written_before_it_is_printed_and_as_utf_8(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("builtins.print", fail)
    with pytest.raises(OSError, match="No space"):
        publish("1.0 ± 0.1", tmp_path)
    assert (tmp_path / "table.md").read_bytes() == "1.0 ± 0.1\n".encode()
