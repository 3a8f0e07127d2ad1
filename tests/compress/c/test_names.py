"""Names in C: what is refused, and what a layer's name becomes."""

from pathlib import Path

import pytest

from pyro_vd.compress.c.names import check_names, free_name, to_identifier
from pyro_vd.errors import UserError


@pytest.mark.parametrize("prefix", ["2nd", "a b", "a\n", "", "_a", "ä", "a-b", "a;"])
def test_a_prefix_is_an_identifier(prefix):
    with pytest.raises(UserError, match="it must be a letter, then letters"):
        check_names(Path("network.c"), prefix)
    check_names(Path("network.c"), "a2_B")


@pytest.mark.parametrize("name", ["network.cpp", "network", 'a".c', "a b.c", "a\n.c", "ä.c"])
def test_a_file_can_be_included(name):
    with pytest.raises(UserError, match="the name must be of letters, digits"):
        check_names(Path("folder with spaces") / name, "network")
    check_names(Path("folder with spaces") / "my-net.v2.c", "network")


def test_a_layers_name_becomes_an_identifier():
    names = {"block.0.conv": "block_0_conv", "0": "layer_0", "über": "_ber", "a*/b": "a__b"}
    assert {name: to_identifier(name) for name in names} == names


def test_no_name_is_there_twice():
    assert free_name("fc", {"a"}) == "fc"
    assert free_name("fc", {"fc"}) == "fc_2"
    assert free_name("fc", {"fc", "fc_2", "fc_4"}) == "fc_3"
