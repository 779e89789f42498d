"""Fisher information against autograd on the dense weights, one example and one class at a time."""

import numpy as np
import pytest
import torch
from torch import nn

from adapterbank.calibration.fisher import fisher
from adapterbank.calibration.tasks import Setting, Task
from adapterbank.errors import IncompatibleError, UsageError
from adapterbank.lora.adapter import Adapter, Factors
from tests.calibration.models import SHAPES, Tiny, adapter, task, weights_added

NAMES = ["a" * 64, "b" * 64]
ADAPTERS = [adapter(1, 2, modules=tuple(SHAPES)), adapter(2, 3, scaling=0.5)]


def setting(**settings):
    return Setting(Tiny(), {f"task{i}": task(i, 2, **settings) for i in range(2)})


def by_autograd(model, one_task, chosen):
    """``chosen(log p, label)`` gives pairs of a weight and a class for one example."""
    sums, examples = dict.fromkeys(SHAPES, 0.0), 0
    for each in one_task.batches:
        for n in range(len(each["tokens"])):
            cut = slice(n, n + 1)
            log = model(each["tokens"][cut], each["attention_mask"][cut]).log_softmax(1)[0]
            for weight, c in chosen(log.detach(), int(each["labels"][n])):
                parameters = [model.get_submodule(name).weight for name in SHAPES]
                for name, g in zip(SHAPES, torch.autograd.grad(log[c], parameters, retain_graph=True), strict=True):
                    sums[name] = sums[name] + weight * g.square()
            examples += 1
    return {name: (total.T if name == "words" else total) / examples for name, total in sums.items()}


@pytest.mark.parametrize(
    ("classes", "chosen"),
    [
        ("expected", lambda log, label: [(float(p), c) for c, p in enumerate(log.exp())]),
        ("given", lambda log, label: [(1.0, label)]),
    ],
)
def test_equals_autograd_one_example_and_one_class_at_a_time(classes, chosen):
    one = setting(padded=True)
    results = fisher(one, ADAPTERS, NAMES, classes=classes)
    for value, own, each in zip(ADAPTERS, results, one.tasks.values(), strict=True):
        model = weights_added(one.model, [value], torch.ones(1, len(value.modules))).requires_grad_(True)
        expected = by_autograd(model, each, chosen)
        for module, shape in SHAPES.items():
            assert own.of(module).shape == shape
            np.testing.assert_allclose(own.of(module), expected[module], rtol=1e-5, atol=1e-9)
        assert own.about == {"classes": classes, "examples": 10, "seed": 0}
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in one.model.modules())


def test_the_size_of_batches_does_not_matter():
    one = setting()
    single = {
        name: Task([{k: v[n : n + 1] for k, v in b.items()} for b in each.batches for n in range(5)], each.outputs, each.labels)
        for name, each in one.tasks.items()
    }
    for first, second in zip(fisher(one, ADAPTERS, NAMES), fisher(Setting(one.model, single), ADAPTERS, NAMES), strict=True):
        for module in SHAPES:
            torch.testing.assert_close(first.of(module), second.of(module), rtol=1e-5, atol=1e-9)


def test_draws_of_classes_tend_to_the_expectation_and_follow_the_seed():
    one = setting()
    expected = fisher(one, ADAPTERS, NAMES)[0].of("layers.0.query")
    draws = [fisher(one, ADAPTERS, NAMES, seed, classes="sampled")[0].of("layers.0.query") for seed in range(40)]
    again = fisher(one, ADAPTERS, NAMES, 3, classes="sampled")[0].of("layers.0.query")
    assert torch.equal(draws[3], again)
    assert not torch.equal(draws[3], draws[4])
    single = float((draws[0] - expected).norm() / expected.norm())
    mean = float((sum(draws) / len(draws) - expected).norm() / expected.norm())
    assert mean < single / 2


class Repeated(nn.Module):
    """One linear that is called twice, in place work behind it, answers at every token."""

    def __init__(self):
        super().__init__()
        self.m = nn.Linear(3, 3).double()

    def forward(self, x):
        return self.m(self.m(x).relu_())


REPEATED = Adapter({"m": Factors(torch.ones(1, 3).double(), torch.ones(3, 1).double())})


def test_calls_of_one_module_add_up_and_tokens_that_do_not_count_stay_out():
    torch.manual_seed(0)
    model, x = Repeated(), torch.randn(2, 4, 3).double()
    labels = torch.tensor([[0, 1, 2, -100], [1, 1, 0, 2]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 1]])
    one = Task([x], lambda m, b: m(b), lambda b: labels, lambda b: mask)
    own = fisher(Setting(model, {"t": one}), [REPEATED], NAMES[:1], classes="given")[0].of("m")
    with torch.no_grad():
        model.m.weight += 1.0
    expected = torch.zeros(3, 3).double()
    for n in range(2):
        log = model(x[n]).log_softmax(-1)
        score = sum(log[t, labels[n, t]] for t in range(4) if mask[n, t] and labels[n, t] >= 0)
        expected += torch.autograd.grad(score, model.m.weight)[0].square() / 2
    torch.testing.assert_close(own.double(), expected, rtol=1e-5, atol=1e-9)


def test_what_cannot_be_is_refused():
    model, x = Repeated(), torch.zeros(2, 4, 3).double()

    def run(one, **options):
        return fisher(Setting(model, {"t": one}), [REPEATED], NAMES[:1], **options)

    with pytest.raises(UsageError, match=r"\[2, 4, 3\]"):
        run(Task([x], lambda m, b: m(b)))
    with pytest.raises(UsageError, match="right classes"):
        run(Task([x], lambda m, b: m(b)), classes="given")
    with pytest.raises(UsageError, match="without gradients"):
        run(Task([x], torch.no_grad()(lambda m, b: m(b))))
    with pytest.raises(IncompatibleError, match="expected 4 in front"):
        run(Task([x], lambda m, b: m(b).transpose(0, 1)[:, 0]))
