"""Adapters attached with coefficients: what they answer, their gradients, and the model afterwards."""

import pytest
import torch
from torch import nn

from adapterbank.calibration.attached import attached
from adapterbank.errors import IncompatibleError, UsageError
from adapterbank.lora.adapter import Adapter, Factors
from tests.calibration.models import LINEARS, SHAPES, Tiny, adapter, batch, weights_added

MIXED = [
    adapter(1, 2, scaling=2.0, modules=tuple(SHAPES)),
    adapter(2, 3, scaling=0.5, modules=[m for m in LINEARS if m != "layers.0.query"]),
    adapter(3, 1, modules=["layers.0.query", "words"]),
]
L = len(SHAPES)
TOKENS = batch(7)["tokens"]


def coefficients(seed=0):
    return torch.randn(len(MIXED), L, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_answers_like_the_model_with_the_weighted_deltas_in_its_weights():
    model, c = Tiny(), coefficients()
    with attached(model, MIXED, c) as site:
        got = model(TOKENS)
        assert site.modules == tuple(sorted(SHAPES))
        assert site.ranks["layers.0.query"] == (2, 0, 1)
    torch.testing.assert_close(got, weights_added(model, MIXED, c)(TOKENS), rtol=1e-12, atol=1e-12)


def test_without_coefficients_it_is_the_average():
    model = Tiny()
    with attached(model, MIXED):
        got = model(TOKENS)
    average = torch.full((3, L), 1 / 3, dtype=torch.float64)
    torch.testing.assert_close(got, weights_added(model, MIXED, average)(TOKENS), rtol=1e-7, atol=1e-7)


def test_the_gradient_of_a_coefficient_is_the_product_of_the_weights_gradient_and_the_delta():
    """∂L/∂c_i = <G, ΔW_i>: against the gradient of the dense weights, and against a finite difference."""
    model, c = Tiny(), coefficients().requires_grad_()
    with attached(model, MIXED, c):
        model(TOKENS).logsumexp(1).sum().backward()
    dense = weights_added(model, MIXED, c.detach()).requires_grad_(True)
    dense(TOKENS).logsumexp(1).sum().backward()
    for place, name in enumerate(sorted(SHAPES)):
        G = dense.get_submodule(name).weight.grad
        for i, value in enumerate(MIXED):
            f = value.modules.get(name)
            delta = torch.zeros(SHAPES[name]).double() if f is None else f.scaling * f.B @ f.A
            expected = (G * (delta.T if name == "words" else delta)).sum()
            torch.testing.assert_close(c.grad[i, place], expected, rtol=1e-9, atol=1e-10)
    step = 1e-6

    def loss(values):
        with torch.no_grad():
            return weights_added(model, MIXED, values)(TOKENS).logsumexp(1).sum()

    for i, place in [(0, 0), (1, 3), (2, L - 1)]:
        change = torch.zeros_like(c.detach())
        change[i, place] = step
        difference = (loss(c.detach() + change) - loss(c.detach() - change)) / (2 * step)
        assert float(c.grad[i, place]) == pytest.approx(float(difference), rel=1e-6, abs=1e-8)


def test_units_multiply_rank_units_and_have_gradients():
    model, c = Tiny(), coefficients()
    units = {name: torch.rand(sum(a.modules[name].rank for a in MIXED if name in a.modules)).double() for name in SHAPES}
    with attached(model, MIXED, c) as site:
        site.units = {name: values.clone().requires_grad_() for name, values in units.items()}
        got = model(TOKENS)
        got.sum().backward()
        assert all(bool(values.grad.any()) for values in site.units.values())
        table = site.table("layers.0.query", units["layers.0.query"])
        assert table.shape == (3, 2)
        assert torch.equal(table[1], torch.zeros(2, dtype=torch.float64))
        assert torch.equal(table[2], torch.stack([units["layers.0.query"][2], torch.tensor(0.0).double()]))
    masked = []
    for i, value in enumerate(MIXED):
        modules = {}
        for name, f in value.modules.items():
            start = sum(a.modules[name].rank for a in MIXED[:i] if name in a.modules)
            modules[name] = Factors(f.A * units[name][start : start + f.rank, None], f.B, f.scaling, f.kind)
        masked.append(Adapter(modules))
    torch.testing.assert_close(got.detach(), weights_added(model, masked, c)(TOKENS), rtol=1e-12, atol=1e-12)


def test_coefficients_set_inside_count_from_the_next_pass_on():
    model = Tiny()
    with attached(model, MIXED, coefficients(1)) as site:
        site.coefficients = coefficients(2)
        got = model(TOKENS)
        with pytest.raises(UsageError, match=r"\[2, 7\], expected \[3, 7\]"):
            site.coefficients = torch.zeros(2, L)
        with pytest.raises(UsageError, match=r"layers\.0\.query.*\[2\], expected \[3\]"):
            site.units = {"layers.0.query": torch.zeros(2)}
        with pytest.raises(UsageError, match="other"):
            site.units = {"other": torch.zeros(2)}
    torch.testing.assert_close(got, weights_added(model, MIXED, coefficients(2))(TOKENS), rtol=1e-12, atol=1e-12)


def state(model):
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks), m.training) for m in model.modules()]
    return hooks, [p.requires_grad for p in model.parameters()]


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_as_it_was_afterwards(fails):
    model = Tiny().train()
    model.layers[0].eval()
    model.head.requires_grad_(False)
    before, weights = state(model), {name: value.clone() for name, value in model.state_dict().items()}
    try:
        with attached(model, MIXED):
            assert not any(p.requires_grad for p in model.parameters())
            assert torch.equal(model(TOKENS), model(TOKENS))  # no dropout
            if fails:
                raise RuntimeError
    except RuntimeError:
        assert fails
    assert state(model) == before
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_the_hooks_go_when_a_later_one_cannot_be_set(monkeypatch):
    model = Tiny()
    before = state(model)
    monkeypatch.setattr(model.words, "register_forward_hook", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError), attached(model, MIXED):
        raise AssertionError("not reached")
    assert state(model) == before


def linear(d_out, d_in, kind="linear"):
    return Factors(A=torch.zeros(1, d_in), B=torch.zeros(d_out, 1), kind=kind)


@pytest.mark.parametrize(
    ("module", "factors", "message"),
    [
        ("layers.7.query", linear(8, 6), "no module 'layers.7.query'"),
        ("encoder.layers.0.query", linear(8, 6), "it has 'layers.0.query'"),
        ("layers.0.query", linear(6, 8), "got an adapter for 6×8 linear, the model's is 8×6 linear"),
        ("words", linear(6, 11), "6×11 linear, the model's is 6×11 embedding"),
        ("layers.0", linear(6, 6), "is a Block"),
    ],
)
def test_adapters_of_another_model_are_refused(module, factors, message):
    model = Tiny()
    before = state(model)
    with pytest.raises(IncompatibleError, match=message), attached(model, [Adapter({module: factors})]):
        raise AssertionError("not reached")
    assert state(model) == before


def test_adapters_whose_shapes_differ_are_refused():
    first, second = Adapter({"m": linear(2, 3)}), Adapter({"m": linear(3, 2)})
    with pytest.raises(IncompatibleError, match="different shapes"), attached(Tiny(), [first, second]):
        raise AssertionError("not reached")


def test_nothing_to_attach_is_refused():
    with pytest.raises(UsageError, match="at least one"), attached(Tiny(), []):
        raise AssertionError("not reached")


def test_a_model_in_half_precision_answers_in_it():
    model = nn.Sequential(nn.Linear(3, 2)).to(torch.bfloat16)
    one = Adapter({"0": Factors(A=torch.ones(1, 3), B=torch.ones(2, 1))})
    with attached(model, [one]):
        assert model(torch.ones(1, 3, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_a_hugging_face_model_answers_as_it_does_with_peft():
    """GPT-2: Conv1D, an embedding, rank-stabilised scaling, two ranks."""
    transformers, peft = pytest.importorskip("transformers"), pytest.importorskip("peft")
    config = transformers.GPT2Config(vocab_size=17, n_positions=8, n_embd=8, n_layer=2, n_head=2)
    torch.manual_seed(0)
    model = transformers.GPT2Model(config).eval()
    tokens = torch.tensor([[3, 1, 16, 0], [2, 2, 5, 9]])
    settings = peft.LoraConfig(
        r=2,
        lora_alpha=3,
        use_rslora=True,
        rank_pattern={"c_fc": 4},
        target_modules=["c_attn", "c_fc", "wte"],
        fan_in_fan_out=True,
    )
    wrapped = peft.get_peft_model(model, settings).eval()
    adapters = {}
    for name, module in wrapped.base_model.model.named_modules():
        if hasattr(module, "lora_A"):
            embedding = bool(module.lora_embedding_A)
            A = module.lora_embedding_A["default"] if embedding else module.lora_A["default"].weight
            B = module.lora_embedding_B["default"] if embedding else module.lora_B["default"].weight
            with torch.no_grad():
                A.normal_(), B.normal_()
            kind = "embedding" if embedding else "linear"
            adapters[name] = Factors(A.detach().clone(), B.detach().clone(), module.scaling["default"], kind)
    assert len(adapters) == 5
    expected = wrapped(tokens).last_hidden_state.detach()
    plain = wrapped.unload()
    with attached(plain, [Adapter(adapters)]):
        got = plain(tokens).last_hidden_state
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    assert float((plain(tokens).last_hidden_state - expected).abs().max()) > 0.1
