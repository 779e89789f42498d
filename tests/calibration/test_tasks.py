"""What a user's hook returns."""

import pytest
import torch

from adapterbank.calibration.tasks import Setting, Task, tasks_of
from adapterbank.errors import UsageError
from tests.calibration.models import Tiny, task


def outputs(model, batch):
    return model(batch)


def test_tasks_are_arranged_in_the_order_of_references():
    first, second = task(1), task(2)
    setting = Setting(Tiny(), {"a": first, "b": second, "c": first}, {"a": second, "c": first})
    arranged = setting.arranged(["b", "a"])
    assert list(arranged.tasks.items()) == [("b", second), ("a", first)]
    assert list(arranged.held_out.items()) == [("a", second)]
    assert arranged.model is setting.model
    assert tasks_of(arranged, ["digest of b", "digest of a"]) == [second, first]


def test_a_reference_without_a_task_or_without_batches_is_refused_by_name():
    setting = Setting(Tiny(), {"a": task(1), "empty": Task([], outputs)})
    with pytest.raises(UsageError, match="no task for c, d: got tasks for a, empty"):
        setting.arranged(["a", "c", "d"])
    with pytest.raises(UsageError, match="no batches for empty"):
        tasks_of(setting, ["1", "2"])
    with pytest.raises(UsageError, match=r"2 tasks \(a, empty\) for 1 adapters"):
        tasks_of(setting, ["1"])


def test_which_tokens_count():
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    plain = Task([0], outputs)
    assert plain.counted({"attention_mask": mask}).tolist() == [[True, True, False], [True, False, False]]
    assert plain.counted({"input_ids": mask}) is None
    assert plain.counted(mask) is None
    assert plain.counted({"attention_mask": torch.zeros(2, 1, 3, 3)}) is None  # not one per token
    own = Task([0], outputs, mask=lambda batch: 1 - batch["attention_mask"])
    assert own.counted({"attention_mask": mask}).tolist() == [[False, False, True], [False, True, True]]


def test_labels_that_are_not_there_are_asked_for():
    with pytest.raises(UsageError, match="has none"):
        Task([0], outputs).targets(0)
    assert task(1).targets(task(1).batches[0]).shape == (5,)


def test_of_what_is_held_out_no_more_batches_are_left_than_asked_for():
    setting = Setting(Tiny(), {"a": task(1, 3)}, {"a": task(2, 3)})
    assert setting.arranged(["a"], 2).held_out["a"].batches == setting.held_out["a"].batches[:2]
    assert len(setting.arranged(["a"], 9).held_out["a"].batches) == 3
    assert setting.arranged(["a"], 0).held_out == {}
    assert len(setting.arranged(["a"], 1).tasks["a"].batches) == 3
