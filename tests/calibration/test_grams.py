"""Gram matrices against hooks and loops, with the deltas in the weights."""

import numpy as np
import pytest
import torch

from adapterbank.calibration.gram import gram
from adapterbank.calibration.merged_gram import gram_merged, layer_of, layers_in_order
from adapterbank.calibration.places import places
from adapterbank.calibration.tasks import Setting, Task
from adapterbank.errors import UsageError
from adapterbank.lora.adapter import Adapter, Factors
from adapterbank.merge import merge
from adapterbank.merge.conditions import Conditions
from tests.calibration.models import LINEARS, SHAPES, VOCABULARY, Tiny, adapter, task, weights_added

NAMES = ["a" * 64, "b" * 64, "c" * 64]
ADAPTERS = [
    adapter(1, 2, modules=tuple(SHAPES)),
    adapter(2, 3, scaling=0.5),
    adapter(3, 1, modules=[m for m in LINEARS if m != "layers.1.down"]),
]


def setting(**settings):
    return Setting(Tiny(), {f"task{i}": task(i, **settings) for i in range(3)})


def whole(own, module):
    """The matrix of the stored half, or the diagonal."""
    entries, d_in = own.of(module).numpy(), SHAPES[module][1]
    if module == "words":
        return entries
    G = np.zeros((d_in, d_in), dtype=np.float32)
    G[np.triu_indices(d_in)] = entries
    return G + np.triu(G, 1).T


def grams_by_loops(model, one_task):
    """``Σ x xᵀ / N`` token by token; of the embedding the share of each token."""
    seen = {name: [] for name in SHAPES}
    for name in SHAPES:
        model.get_submodule(name).register_forward_pre_hook(lambda m, args, name=name: seen[name].append(args[0]))
    found = {}
    tokens = [(b, n, t) for b, each in enumerate(one_task.batches) for n, t in each["attention_mask"].nonzero().tolist()]
    with torch.no_grad():
        for each in one_task.batches:
            model(each["tokens"], each["attention_mask"])
    for name in LINEARS:
        found[name] = sum(np.outer(x, x) for b, n, t in tokens for x in [seen[name][b][n, t].numpy()]) / len(tokens)
    found["words"] = np.zeros(VOCABULARY)
    for b, n, t in tokens:
        found["words"][seen["words"][b][n, t]] += 1 / len(tokens)
    return found


@pytest.mark.parametrize("padded", [False, True])
def test_equal_loops_over_the_tokens_that_count_with_the_adapter_in_the_weights(padded):
    one = setting(padded=padded)
    results = gram(one, ADAPTERS, NAMES)
    assert [(each.kind, each.adapter) for each in results] == [("gram", name) for name in NAMES]
    for value, own, each in zip(ADAPTERS, results, one.tasks.values(), strict=True):
        coefficients = torch.ones(1, len(value.modules))
        expected = grams_by_loops(weights_added(one.model, [value], coefficients), each)
        for module in SHAPES:
            assert own.of(module).dtype == torch.float32
            np.testing.assert_allclose(whole(own, module), expected[module], rtol=1e-5, atol=1e-6)
        assert own.about["tokens"] == sum(int(b["attention_mask"].sum()) for b in each.batches)


def test_modules_with_the_same_input_share_one_matrix():
    own = gram(setting(), ADAPTERS, NAMES)[0]
    assert own.modules["layers.0.query"] == own.modules["layers.0.key"]
    assert own.modules["layers.0.down"] != own.modules["layers.0.query"] != own.modules["layers.1.query"]
    assert len(own.tensors) == 5  # words, and two of each layer


def test_an_adapter_is_measured_where_only_others_are():
    assert gram(setting(), ADAPTERS, NAMES)[2].of("layers.1.down").any()


def test_progress_is_told_and_the_model_left_alone():
    one, told = setting(), []
    before = {name: value.clone() for name, value in one.model.state_dict().items()}
    gram(one, ADAPTERS, NAMES, progress=lambda done, of: told.append((done, of)))
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert one.model.training
    assert all(torch.equal(value, before[name]) for name, value in one.model.state_dict().items())
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in one.model.modules())


def test_there_must_be_a_task_for_each_adapter():
    with pytest.raises(UsageError, match="3 tasks"):
        gram(setting(), ADAPTERS[:2], NAMES[:2])


def test_a_layer_is_a_name_up_to_its_first_number():
    assert layer_of("encoder.layer.3.output.dense") == "encoder.layer.3"
    assert layer_of("h.11.mlp.experts.2.up") == "h.11"
    assert layer_of("layers.7") == "layers.7"
    assert layer_of("conv2d.proj") == "conv2d.proj"
    assert layer_of("words") == "words"


def test_layers_come_in_the_order_of_their_calls():
    """``words`` is called first though its name is last, and a module nobody calls comes at the end."""
    one = setting()
    one.model.idle = torch.nn.Linear(2, 2)
    idle = Adapter({"idle": Factors(torch.zeros(1, 2), torch.zeros(2, 1))})
    found = layers_in_order(one, one.tasks["task0"], places(one.model, [*ADAPTERS, idle]))
    assert [sorted(place.name for place in layer)[0] for layer in found] == ["words", "layers.0.down", "layers.1.down", "idle"]


def test_merged_grams_are_those_behind_the_layers_merged_so_far():
    """Slowly: RegMean of the whole layer from scratch, its deltas into the weights, the next layer."""
    one, options = setting(padded=True), {"reduce_non_diagonal_ratio": 0.9, "ridge": 1e-4}
    results = gram_merged(one, ADAPTERS, NAMES, **options)
    merged = {}
    for layer in (["words"], [m for m in LINEARS if "s.0" in m], [m for m in LINEARS if "s.1" in m]):
        expected = []
        for value, each in zip(ADAPTERS, one.tasks.values(), strict=True):
            stack = Adapter({**merged, **{m: value.modules[m] for m in layer if m in value.modules}})
            expected.append(grams_by_loops(weights_added(one.model, [stack], torch.ones(1, len(stack.modules))), each))
        for module in layer:
            stacked = [own[module] for own in expected]
            for own, G in zip(results, stacked, strict=True):
                np.testing.assert_allclose(whole(own, module), G, rtol=1e-4, atol=1e-5)
            merged[module] = by_regmean(module, stacked, **options)
    plain = gram(one, ADAPTERS, NAMES)
    assert float((plain[0].of("layers.1.query") - results[0].of("layers.1.query")).abs().max()) > 1e-2
    torch.testing.assert_close(plain[0].of("words"), results[0].of("words"))


def by_regmean(module, grams, reduce_non_diagonal_ratio, ridge):
    d_out, d_in = SHAPES[module]
    full = [np.diag(G) if G.ndim == 1 else G for G in grams]
    full = [reduce_non_diagonal_ratio * G + (1 - reduce_non_diagonal_ratio) * np.diag(np.diag(G)) for G in full]
    level = ridge * np.mean([np.trace(G) / d_in for G in full])
    full = [G + level * np.eye(d_in) for G in full]
    deltas = [f.scaling * (f.B @ f.A).numpy() if (f := a.modules.get(module)) else np.zeros((d_out, d_in)) for a in ADAPTERS]
    dense = sum(D @ G for D, G in zip(deltas, full, strict=True)) @ np.linalg.inv(sum(full))
    kind = "embedding" if module == "words" else "linear"
    return Factors(A=torch.from_numpy(dense), B=torch.eye(d_out, dtype=torch.float64), kind=kind)


def test_merged_grams_belong_to_their_adapters_and_options():
    one = setting()
    artefacts = gram_merged(one, ADAPTERS, NAMES)
    settings = {"names": NAMES, "conditions": Conditions(artefacts=artefacts)}
    merge("regmean_plus_plus", ADAPTERS, [1.0, 1.0, 1.0], **settings)
    with pytest.raises(UsageError, match=r"made with ridge 1e-06, not with ridge 0\.1"):
        merge("regmean_plus_plus", ADAPTERS, [1.0, 1.0, 1.0], options={"ridge": 0.1}, **settings)
    with pytest.raises(UsageError, match=r"made with a{12} and b{12} and c{12}, not with a{12} and b{12}"):
        merge("regmean_plus_plus", ADAPTERS[:2], [1.0, 1.0], **{**settings, "names": NAMES[:2]})


def test_a_pass_that_is_ended_early_is_not_swallowed_by_the_model():
    def outputs(model, batch):
        try:
            return model(batch["tokens"])
        except Exception:
            raise AssertionError("swallowed") from None

    one = setting()
    tasks = {name: Task(each.batches, outputs) for name, each in one.tasks.items()}
    assert len(gram_merged(Setting(one.model, tasks), ADAPTERS, NAMES)) == 3
