"""What a user's hook returns."""

import pytest
import torch

from adapterbank.calibration.tasks import Setting, Task
from adapterbank.errors import UsageError
from tests.calibration.models import Tiny, task


def outputs(model, batch):
    return model(batch)


def test_the_tasks_of_references_come_in_their_order():
    first, second = task(1), task(2)
    assert Setting(Tiny(), {"a": first, "b": second}).of(["b", "a"]) == [second, first]


def test_a_reference_without_a_task_or_without_batches_is_refused_by_name():
    setting = Setting(Tiny(), {"a": task(1), "empty": Task([], outputs)})
    with pytest.raises(UsageError, match="no task for c, d: got tasks for a, empty"):
        setting.of(["a", "c", "d"])
    with pytest.raises(UsageError, match="no batches for empty"):
        setting.of(["a", "empty"])


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
