"""LoRA ranks: the smaller adapter gives the outputs of the pruned one, live and after PEFT has loaded it; refusals."""

import json
import math
import sys

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from pyro_vd import Categorical, EmpiricalBayes, GroupNormalJeffreys, LogUniform, Posterior, fit, guides, lift
from pyro_vd.errors import UserError
from pyro_vd.lora import count_ranks, select_ranks, shrink_ranks

peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")
RANK = 4
EXACT = {"rtol": 1e-6, "atol": 1e-6}  # sums of another length in float32


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(6, 8), nn.Linear(8, 6)

    def forward(self, x):
        return x + self.down(self.up(x).relu())


class Net(nn.Module):
    """Two blocks, of which the names of one end like those of the other, and a head."""

    def __init__(self):
        super().__init__()
        self.block, self.inner, self.head = Block(), nn.ModuleDict({"block": Block()}), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.inner["block"](self.block(x)))


def make_base(kind=Net):
    torch.manual_seed(0)
    return kind()


def make_net(base=None, **options):
    """A network with an adapter whose B is not 0."""
    options = {"r": RANK, "lora_alpha": 6, "target_modules": ["up", "down"], "init_lora_weights": False, **options}
    return peft.get_peft_model(make_base() if base is None else base, peft.LoraConfig(**options)).eval()


@torch.no_grad()
def kill(net, dead, adapter="default"):
    """Puts zeros into columns of B: name of a weight's end -> numbers of the ranks."""
    for name in select_ranks(net, adapter):
        for end, ranks in dead.items():
            if name.removeprefix("base_model.model.").startswith(f"{end}."):
                net.get_parameter(name)[:, ranks] = 0.0
    return net


DEAD = {"block.up": [0, 2], "block.down": [3], "inner.block.up": [0, 1, 2, 3], "inner.block.down": [0, 1, 2]}
LEFT = {"block.up": 2, "block.down": 3, "inner.block.down": 1}
X = torch.linspace(-2, 2, 30).reshape(5, 6)


def ranks_of(net, adapter="default"):
    return {name.removeprefix("base_model.model."): count for name, count in count_ranks(net, adapter).items()}


# --- what is selected


def test_the_weights_are_those_of_b_and_units_are_ranks():
    net = make_net(rank_pattern={"down": 2})
    names = select_ranks(net)
    assert [name.removeprefix("base_model.model.") for name in names] == [
        f"{path}.lora_B.default.weight" for path in ("block.up", "block.down", "inner.block.up", "inner.block.down")
    ]
    model = lift(net, EmpiricalBayes, Categorical, 5, select=names)
    guide = guides.hierarchical_a.Guide(model)
    assert list(guide.units.values()) == [4, 2, 4, 2]
    # One term of log(1 + 1/alpha) / 2 per rank, and not per weight.
    assert Posterior(model, guide).kl()[names[1]] == pytest.approx(2 * 0.5 * math.log1p(math.exp(3)), rel=1e-5)


def test_point_parameters_are_those_that_peft_trains():
    net = make_net(modules_to_save=["head"])
    model = lift(net, LogUniform, Categorical, 5, select=select_ranks(net))
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert all("lora_A" in name or "modules_to_save" in name for name in trained)
    assert len(trained) == 4 + 2


SCHEMES = {
    "log-uniform": (guides.hierarchical_a, LogUniform),
    "empirical Bayes": (guides.hierarchical_a, EmpiricalBayes),
    "normal-Jeffreys": (guides.group_normal_jeffreys, GroupNormalJeffreys),
}


@pytest.mark.parametrize("name", SCHEMES)
def test_a_new_adapter_trains_although_its_b_is_zero(name):
    scheme, prior = SCHEMES[name]
    net = make_net(init_lora_weights=True, lora_dropout=0.2).train()
    x = torch.randn(64, 6)
    model = lift(net, prior, Categorical, 64, select=select_ranks(net))
    guide = scheme.Guide(model)
    assert all(bool(guide.keep_mask(site, 0.0).all()) for site in guide.sites)
    posterior = fit(
        model, guide, (x, (x[:, 0] > 0).long()), epochs=3, batch_size=16, lr=1e-2, threshold=0.0, engine="eager",
        progress=False,
    )  # fmt: skip
    assert all(bool(guide.theta[site].any(0).all()) for site in guide.sites)
    masks = posterior.masks(-math.inf)
    first, *others = masks
    for site in others:
        masks[site] = torch.ones_like(masks[site])
    pruned = posterior.mean(masks)
    assert len(ranks_of(shrink_ranks(pruned))) == 3
    assert first not in dict(shrink_ranks(pruned).named_parameters())


# --- the smaller adapter

OPTIONS = {
    "plain": {},
    "rank-stabilized": {"use_rslora": True},
    "patterns": {"rank_pattern": {"up": 4}, "r": 5, "alpha_pattern": {"down": 3}, "lora_alpha": 7},
    "bias": {"lora_bias": True},
    "dropout": {"lora_dropout": 0.5},
    "regular expression": {"target_modules": r".*\.(up|down)"},
    "all layers": {"target_modules": "all-linear", "exclude_modules": ["head"]},
    "head": {"modules_to_save": ["head"]},
    "orthogonal": {"init_lora_weights": "orthogonal"},
}


@pytest.mark.filterwarnings("ignore:.*invalid shape")  # PEFT takes every bias of a B for a weight
@pytest.mark.parametrize("name", OPTIONS)
def test_a_loaded_adapter_gives_the_outputs_of_the_pruned_network(name, tmp_path):
    net = kill(make_net(**OPTIONS[name]), DEAD)
    expected = net(X)
    small = shrink_ranks(net)
    torch.testing.assert_close(small(X), expected, **EXACT)
    torch.testing.assert_close(net(X), expected, rtol=0, atol=0)  # the given network is as it was
    small.save_pretrained(tmp_path)
    loaded = peft.PeftModel.from_pretrained(make_base(), tmp_path)
    torch.testing.assert_close(loaded(X), expected, **EXACT)
    # A carrier of the bias stays of a layer without ranks; with other patterns some layers have one rank more.
    extra = {"bias": {"inner.block.up": 1}, "patterns": {"block.down": 4, "inner.block.down": 2}}.get(name, {})
    assert ranks_of(small) == ranks_of(loaded) == {**LEFT, **extra}
    assert json.loads((tmp_path / "adapter_config.json").read_text())["r"] == net.peft_config["default"].r


def test_the_file_holds_the_ranks_that_are_left(tmp_path):
    shrink_ranks(kill(make_net(), DEAD)).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    assert sum(tensor.numel() for tensor in tensors.values()) == sum(LEFT.values()) * (6 + 8)


@pytest.mark.parametrize("seed", range(5))
def test_any_set_of_ranks_leaves_exactly(seed):
    net, generator = make_net(use_rslora=bool(seed % 2)), torch.Generator().manual_seed(seed)
    dead = {end: (torch.rand(RANK, generator=generator) < 0.5).nonzero()[:, 0].tolist() for end in DEAD}
    small = shrink_ranks(kill(net, dead))
    assert ranks_of(small) == {end: RANK - len(ranks) for end, ranks in dead.items() if len(ranks) < RANK}
    for name, layer in small.base_model.model.named_modules():
        if hasattr(layer, "lora_A"):
            before = net.base_model.model.get_submodule(name).get_delta_weight("default")
            torch.testing.assert_close(layer.get_delta_weight("default"), before, **EXACT)
            assert not layer.lora_A["default"].weight.is_meta
            assert layer.lora_A["default"].out_features == layer.lora_B["default"].in_features == layer.r["default"]


def test_a_layer_without_ranks_is_the_one_it_was_made_from():
    base = make_base()
    small = shrink_ranks(kill(make_net(base), DEAD))
    layer = small.base_model.model.inner["block"].up
    assert type(layer) is nn.Linear
    assert small.base_model.targeted_module_names == list(LEFT)
    merged = small.merge_and_unload()
    torch.testing.assert_close(merged(X), kill(make_net(make_base()), DEAD)(X), rtol=1e-5, atol=1e-5)


def test_a_network_without_zeros_keeps_its_ranks():
    net = make_net()
    small = shrink_ranks(net)
    assert ranks_of(small) == ranks_of(net) == dict.fromkeys(DEAD, RANK)
    torch.testing.assert_close(small(X), net(X), rtol=0, atol=0)


def test_ranks_can_be_trained_and_shrunk_again(tmp_path):
    small = shrink_ranks(kill(make_net(), DEAD))
    again = shrink_ranks(kill(small, {"block.down": [1]}))
    assert ranks_of(again) == {**LEFT, "block.down": 2}
    again.save_pretrained(tmp_path)
    torch.testing.assert_close(peft.PeftModel.from_pretrained(make_base(), tmp_path)(X), again(X), **EXACT)


def test_convolutions_and_transposed_weights(tmp_path):
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.flip = nn.Conv2d(2, 4, 3), transformers.pytorch_utils.Conv1D(5, 16)

        def forward(self, x):
            return self.flip(self.conv(x).relu().flatten(1))

    def make():
        return make_net(make_base(Mixed), target_modules=["conv", "flip"], fan_in_fan_out=True)

    net, x = kill(make(), {"conv": [1], "flip": [0, 3]}), torch.randn(3, 2, 4, 4)
    expected, small = net(x), shrink_ranks(net)
    assert ranks_of(small) == {"conv": 3, "flip": 2}
    torch.testing.assert_close(small(x), expected, rtol=1e-5, atol=1e-5)
    small.save_pretrained(tmp_path)
    loaded = peft.PeftModel.from_pretrained(make_base(Mixed), tmp_path)
    torch.testing.assert_close(loaded(x), expected, rtol=1e-5, atol=1e-5)


# --- several adapters, shared and tied modules, networks around a PeftModel


def test_only_the_named_adapter_changes(tmp_path):
    net = make_net()
    net.add_adapter("other", peft.LoraConfig(r=3, target_modules=["up"], init_lora_weights=False))
    net.set_adapter("other")
    other = net(X)
    parameters = {name: value.clone() for name, value in net.named_parameters() if ".other." in name}
    net.set_adapter("default")
    assert all(".default." in name for name in select_ranks(net))
    kill(net, DEAD)
    expected = net(X)
    small = shrink_ranks(net)
    assert ranks_of(small) == LEFT
    assert ranks_of(small, "other") == {"block.up": 3, "inner.block.up": 3}
    torch.testing.assert_close(small(X), expected, **EXACT)
    assert small.peft_config["other"].rank_pattern == {}
    small.set_adapter("other")
    torch.testing.assert_close(small(X), other, rtol=0, atol=0)
    left = {name: value for name, value in small.named_parameters() if ".other." in name}
    assert left.keys() == parameters.keys()
    assert all(torch.equal(left[name], value) for name, value in parameters.items())
    small.save_pretrained(tmp_path, selected_adapters=["default"])
    torch.testing.assert_close(peft.PeftModel.from_pretrained(make_base(), tmp_path)(X), expected, **EXACT)


class Shared(nn.Module):
    """One block under two names, and two layers with one weight."""

    def __init__(self):
        super().__init__()
        self.first = self.second = Block()
        self.up = nn.Linear(6, 8)
        self.up.weight = self.first.up.weight

    def forward(self, x):
        return self.up(self.second(self.first(x)))


@pytest.mark.filterwarnings("ignore:Found missing adapter keys")  # PEFT looks for the second name in the file
def test_a_shared_block_loses_ranks_once(tmp_path):
    net = make_net(make_base(Shared))
    assert len(select_ranks(net)) == 3
    kill(net, {"first.up": [0, 1], "first.down": [0, 1, 2, 3], "up": [2]})
    expected, small = net(X), shrink_ranks(net)
    assert ranks_of(small) == {"first.up": 2, "up": 3}
    assert small.base_model.model.first is small.base_model.model.second
    torch.testing.assert_close(small(X), expected, **EXACT)
    small.save_pretrained(tmp_path)
    torch.testing.assert_close(peft.PeftModel.from_pretrained(make_base(Shared), tmp_path)(X), expected, **EXACT)


def test_tied_weights_of_an_adapter_stay_tied():
    net = make_net()
    blocks = net.base_model.model.block, net.base_model.model.inner["block"]
    for part in ("lora_A", "lora_B"):
        getattr(blocks[1].up, part)["default"].weight = getattr(blocks[0].up, part)["default"].weight
    assert len(select_ranks(net)) == 3
    kill(net, {"block.up": [1]})
    small = shrink_ranks(net)
    first, second = (block.up for block in (small.base_model.model.block, small.base_model.model.inner["block"]))
    assert first.lora_A["default"].weight is second.lora_A["default"].weight
    assert first.lora_B["default"].weight is second.lora_B["default"].weight
    torch.testing.assert_close(small(X), net(X), **EXACT)


def test_a_layer_in_two_places_leaves_both():
    net = make_net()
    blocks = net.base_model.model.block, net.base_model.model.inner["block"]
    blocks[1].up = blocks[0].up
    small = shrink_ranks(kill(net, {"block.up": [0, 1, 2, 3]}))
    assert ranks_of(small) == {"block.down": 4, "inner.block.down": 4}
    left = small.base_model.model.block.up, small.base_model.model.inner["block"].up
    assert type(left[0]) is type(left[1]) is nn.Linear
    torch.testing.assert_close(small(X), net(X), **EXACT)


def test_a_network_may_hold_several_models_with_adapters():
    net = nn.Sequential(make_net(), make_net(make_base(Block))).eval()
    net[0].base_model.model.head = nn.Identity()
    sites = select_ranks(net)
    assert [site[0] for site in sites] == ["0"] * 4 + ["1"] * 2
    with torch.no_grad():
        net.get_parameter(sites[0])[:, 0] = 0.0
        net.get_parameter(sites[5])[:] = 0.0
    small = shrink_ranks(net)
    assert list(count_ranks(small).values()) == [3, 4, 4, 4, 4]
    torch.testing.assert_close(small(X), net(X), **EXACT)


def test_a_transformer_and_its_masks(tmp_path):
    def make():
        torch.manual_seed(0)
        sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
        return transformers.BertModel(transformers.BertConfig(vocab_size=20, **sizes), add_pooling_layer=False)

    class Classifier(nn.Module):
        def __init__(self, encoder):
            super().__init__()
            self.encoder, self.head = encoder, nn.Linear(8, 3)

        def forward(self, ids):
            return self.head(self.encoder(input_ids=ids).last_hidden_state.mean(1))

    config = peft.LoraConfig(r=RANK, target_modules=["query", "value", "dense"], lora_dropout=0.1)
    net, ids = Classifier(peft.get_peft_model(make(), config)).train(), torch.randint(20, (32, 5))
    model = lift(net, LogUniform, Categorical, 32, select=select_ranks(net))
    pair = model, guides.hierarchical_a.Guide(model)
    posterior = fit(*pair, (ids, ids[:, 0] % 3), epochs=2, lr=1e-2, engine="eager", progress=False)
    masks = posterior.masks(math.inf)
    for number, mask in enumerate(masks.values()):
        mask[:, :number] = False
    pruned = posterior.mean(masks)
    small = shrink_ranks(pruned)
    assert list(count_ranks(small).values()) == [4, 3, 2, 1]
    torch.testing.assert_close(small(ids), pruned(ids), **EXACT)
    small.encoder.save_pretrained(tmp_path)
    small.encoder = peft.PeftModel.from_pretrained(make(), tmp_path)
    torch.testing.assert_close(small(ids), pruned(ids), **EXACT)


# --- refusals


def merged():
    net = make_net()
    net.merge_adapter()
    return net


def frozen():
    net = make_net()
    net.requires_grad_(False)
    return net


def inactive():
    net = make_net()
    net.add_adapter("other", peft.LoraConfig(r=3, target_modules=["up"]))
    net.set_adapter("other")
    return net


def disabled():
    net = make_net()
    net.base_model.disable_adapter_layers()
    return net


def grouped():
    base = nn.Sequential(nn.Conv2d(4, 4, 1, groups=2))
    return make_net(base, target_modules=["0"])


def embedding():
    return make_net(nn.Sequential(nn.Embedding(5, 6), Net()), target_modules=["0", "up"])


def attention():
    return make_net(nn.ModuleDict({"mha": nn.MultiheadAttention(6, 2)}), target_modules=["mha"])


def parameter():
    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.experts = Block()

    return make_net(Bare(), target_modules=[], target_parameters=["experts.up.weight"])


def other_method():
    return peft.get_peft_model(make_base(), peft.IA3Config(target_modules=["up"], feedforward_modules=[]))


BOTH = {  # refused by every function
    "no adapter": (make_base, "Net has no adapter 'default'; it holds no PeftModel"),
    "DoRA": (lambda: make_net(use_dora=True), "'block.up' of adapter 'default': DoraLinearVariant"),
    "embedding": (embedding, "'0' of adapter 'default': it adapts an embedding"),
    "attention": (attention, "torch.nn.MultiheadAttention"),
    "bare parameter": (parameter, "target_parameters"),
    "grouped convolution": (grouped, "ungrouped convolutions"),
    "another method": (other_method, "adapter 'default' is IA3, not LoRA"),
    "PiSSA": (lambda: make_net(init_lora_weights="pissa"), "init_lora_weights='pissa', which changes the weights"),
    "merged": (merged, "call unmerge_adapter"),
}
SELECTION = {
    "frozen": (frozen, "'block.up' is frozen"),
    "inactive": (inactive, r"adapter 'default' is not active; call set_adapter\('default'\)"),
    "disabled": (disabled, "adapter 'default' is not active"),
}


@pytest.mark.filterwarnings("ignore")  # PEFT's own about what these configurations do
@pytest.mark.parametrize(("name", "function"), [(n, f) for n in BOTH for f in (select_ranks, shrink_ranks)])
def test_other_adapters_are_refused(name, function):
    make, message = BOTH[name]
    with pytest.raises(UserError, match=f"{function.__name__}: .*{message}"):
        function(make())


@pytest.mark.parametrize("name", SELECTION)
def test_an_adapter_that_does_not_train_is_not_selected(name):
    make, message = SELECTION[name]
    with pytest.raises(UserError, match=message):
        select_ranks(make())
    assert len(ranks_of(shrink_ranks(make()))) == 4


def test_an_unknown_adapter_is_named_with_the_known_ones():
    with pytest.raises(UserError, match="has no adapter 'defualt'; its adapters are 'default'"):
        count_ranks(make_net(), "defualt")


def test_an_adapter_without_ranks_is_refused():
    with pytest.raises(UserError, match="all ranks of adapter 'default' are 0"):
        shrink_ranks(make_net(init_lora_weights=True))


@pytest.mark.parametrize("function", [select_ranks, count_ranks, shrink_ranks])
def test_a_class_is_no_network(function):
    with pytest.raises(TypeError, match=r"net must be an nn\.Module, not type"):
        function(Net)


def test_without_peft_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError, match="needs peft; pip install"):
        select_ranks(nn.Linear(2, 2))
