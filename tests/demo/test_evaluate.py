"""Sentences, heads and shares: everything of the demo's accuracies that needs no encoder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from adapterbank.demo.evaluate import Head, Sentences, read_head, read_sentences, share_equal
from adapterbank.errors import NotFoundError, RefusedInputError


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_one_file_is_divided_by_skill(tmp_path: Path) -> None:
    rows = [
        {"skill": "a", "text": "x", "label": 1},
        {"skill": "b", "text": "y", "label": 0},
        {"skill": "a", "text": "z", "label": 2},
    ]
    path = write(tmp_path / "all.jsonl", *rows)
    assert read_sentences(path, ["a", "c"]) == {"a": Sentences(("x", "z"), (1, 2))}


def test_only_a_newline_ends_a_line(tmp_path: Path) -> None:
    text = "left\u2028middle\x85right"
    rows = f'{{"text": "{text}", "label": 1}}\r\n{{"text": "x", "label": 0}}'
    (tmp_path / "a.jsonl").write_text(rows, encoding="utf-8", newline="")
    assert read_sentences(tmp_path, ["a"]) == {"a": Sentences((text, "x"), (1, 0))}
    (tmp_path / "b.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(NotFoundError):
        read_sentences(tmp_path, ["b"])


def test_a_folder_has_a_file_per_skill_and_test_files_come_first(tmp_path: Path) -> None:
    write(tmp_path / "a.test.jsonl", {"text": "from the test set", "label": 1})
    write(tmp_path / "a.jsonl", {"text": "from another", "label": 0})
    write(tmp_path / "b.jsonl", {"a": "the other key", "label": 3})
    write(tmp_path / "set_c.test.jsonl", {"text": "behind a prefix", "label": 2})
    found = read_sentences(tmp_path, ["a", "b", "c", "absent"])
    assert found == {
        "a": Sentences(("from the test set",), (1,)),
        "b": Sentences(("the other key",), (3,)),
        "c": Sentences(("behind a prefix",), (2,)),
    }


def test_no_sentences_for_any_skill_is_an_error_that_names_them(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="home, work"):
        read_sentences(tmp_path, ["work", "home"])
    with pytest.raises(NotFoundError):
        read_sentences(tmp_path / "absent.jsonl", ["home"])


@pytest.mark.parametrize("line", ['{"text": "no label"}', "not JSON", "[1, 2]", '{"text": "x", "label": "seven"}'])
def test_a_bad_line_is_named_by_file_and_number(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x", "label": 0}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(RefusedInputError, match=r"a\.jsonl:2"):
        read_sentences(tmp_path, ["a"])


def test_a_head_is_linear_and_answers_with_the_largest_logit() -> None:
    head = Head(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0.0, 0.5]))
    features = torch.tensor([[1.0, 0.0], [0.4, 0.0], [0.0, 1.0]])
    assert head.predict(features).tolist() == [0, 1, 1]


def test_a_missing_head_says_which(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"home\.safetensors"):
        read_head(tmp_path / "home.safetensors")


def test_share_equal_counts_the_same_answers() -> None:
    assert share_equal(torch.tensor([1, 2, 3, 4]), torch.tensor([1, 2, 0, 4])) == 0.75
