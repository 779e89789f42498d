"""Gradients of log-likelihoods with respect to what modules answer, example by example, from one pass per batch.

An example's weight gradient is ``Σ_t dy_t x_tᵀ`` over its tokens; inputs x and answers' gradients dy are all that is needed, so
no parameter requires a gradient. Batches may be of any size: in evaluation mode the examples do not mix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from adapterbank.calibration.attached import module_input
from adapterbank.calibration.places import Place
from adapterbank.calibration.tasks import Setting, Task
from adapterbank.errors import IncompatibleError, UsageError

Classes = Literal["expected", "sampled", "given"]
Call = tuple[Tensor, Tensor]  # a module's inputs and its answer
Take = Callable[[Place, Sequence[Call]], None]
_IGNORED = -100


def score_gradients(
    setting: Setting, task: Task, found: Sequence[Place], classes: Classes, draw: torch.Generator, take: Take
) -> int:
    """Call ``take(place, calls)`` for each module, batch and class, and return the number of examples.

    Each call of a module gives ``x [N, T, d_in]`` (of an embedding ``[N, T]``) and ``dy [N, T, d_out]``; dy is the gradient of
    ``√p(c)·log p(c)``, p the model's prediction held constant, so that squares summed over all classes are the expectation over
    classes (``expected``); or of log p(c) of a class drawn from p (``sampled``, at every token if it answers at tokens) or of
    the right one (``given``).

    Raises UsageError for outputs without gradients or labels that are missing, IncompatibleError if a module's inputs cannot be
    told apart by example.
    """
    examples = 0
    for batch in task.batches:
        with torch.enable_grad(), _taped(found) as tape:
            logits = task.outputs(setting.model, batch)
            if not logits.requires_grad:
                raise UsageError(
                    "outputs(model, batch) of the task gives logits without gradients: expected no torch.no_grad there"
                )
            counted = task.counted(batch) if logits.ndim > 2 else None
            answers = [answer for calls in tape.values() for _, answer in calls]
            for score in _scores(task, batch, logits, counted, classes, draw):
                gradients = iter(torch.autograd.grad(score, answers, retain_graph=True, allow_unused=True))
                for place in found:
                    pairs = [(x, next(gradients)) for x, _ in tape[place.name]]
                    calls = [_by_example(place, x, dy, len(logits)) for x, dy in pairs if dy is not None]
                    if calls:
                        take(place, calls)
        examples += len(logits)
    return examples


def _scores(
    task: Task, batch: Any, logits: Tensor, counted: Tensor | None, classes: Classes, draw: torch.Generator
) -> Iterator[Tensor]:
    """What is differentiated, one scalar after the other: a sum over examples, which do not see each other."""
    log = torch.log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)), dim=-1)
    if classes == "expected":
        if logits.ndim > 2:
            raise UsageError(
                f"the expectation over classes needs one prediction per example, got logits {list(logits.shape)}",
                hint="--option classes=sampled draws one class at every token",
            )
        yield from ((log[:, c].detach().exp().sqrt() * log[:, c]).sum() for c in range(log.shape[-1]))
        return
    if classes == "sampled":
        flat = log.detach().exp().reshape(-1, log.shape[-1]).cpu()
        chosen = torch.multinomial(flat, 1, generator=draw).reshape(log.shape[:-1]).to(log.device)
    else:
        chosen = task.targets(batch).to(log.device)
    keep = chosen != _IGNORED
    if counted is not None:
        keep = keep & counted.to(log.device)
    yield (log.gather(-1, chosen.clamp(min=0).unsqueeze(-1)).squeeze(-1) * keep).sum()


@contextmanager
def _taped(found: Sequence[Place]) -> Iterator[Mapping[str, list[Call]]]:
    """Write down every call of the modules, their answers as parts of the graph of gradients."""
    tape: dict[str, list[Call]] = {place.name: [] for place in found}
    with ExitStack() as stack:
        for place in found:
            hook = place.module.register_forward_hook(_recorder(tape[place.name]), with_kwargs=True)
            stack.callback(hook.remove)
        yield tape


def _recorder(calls: list[Call]) -> Any:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:
        answer = output if output.requires_grad else output.detach().requires_grad_()
        calls.append((module_input(args, kwargs).detach(), answer))
        return answer.clone()  # what follows may work in place

    return hook


def _by_example(place: Place, x: Tensor, dy: Tensor, examples: int) -> Call:
    """``x`` and ``dy`` with the shape ``[examples, T, …]``."""
    lead = x.shape if place.is_embedding else x.shape[:-1]
    if not lead or (lead[0] != examples and (len(lead) > 1 or lead[0] % examples)):
        raise IncompatibleError(
            f"module {place.name!r}: inputs {list(x.shape)} cannot be told apart by example, expected {examples} in front",
            hint="give batches of one example",
        )
    dy = dy.detach().reshape(examples, -1, place.d_out).to(place.dtype)
    return (x.reshape(examples, -1) if place.is_embedding else x.reshape(examples, -1, place.d_in).to(place.dtype)), dy
