"""Tables of a repr: aligned, at most 88 columns wide, and escaped in HTML."""

from pyro_vd.text_table import WIDTH, html_table, text_table


def test_columns_are_aligned():
    lines = text_table(("layer", "n"), [("a", "1,000"), ("longer", "2")]).splitlines()
    assert lines == ["layer       n", "a       1,000", "longer      2"]


def test_a_long_name_loses_its_middle_and_no_number_does():
    name = "encoder." + "layer." * 30 + "weight"
    lines = text_table(("layer", "weights"), [(name, "1,000,000"), ("b", "1")]).splitlines()
    assert [len(line) for line in lines] == [WIDTH, WIDTH, WIDTH]
    assert lines[1].startswith("encoder.layer.")
    assert lines[1].endswith("weight  1,000,000")
    assert "..." in lines[1]


def test_html_escapes_what_a_user_named():
    table = html_table(("layer",), [("<script>",), ("b",)], caption="a & b")
    assert "<script>" not in table
    assert "<caption>a &amp; b</caption>" in table
    assert table.count("<tr>") == 3
