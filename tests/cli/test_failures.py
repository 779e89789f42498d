"""Exit statuses and what is said: one translation for every error, for people and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from click.testing import CliRunner

from adapterbank import errors
from adapterbank.cli.main import root
from adapterbank.cli.session import Session
from tests.cli.conftest import Ran, invoke


def failing(error: BaseException, *words: str) -> Ran:
    """Run a command on a bank that raises."""

    @contextmanager
    def opener(location: str, **_: Any) -> Iterator[None]:
        raise error
        yield

    result = CliRunner().invoke(root, [*words], obj=Session(opener=opener))
    return Ran(result.exit_code, result.stdout, result.stderr)


@pytest.mark.parametrize("kind", errors.AdapterBankError.__subclasses__())
def test_each_error_has_its_exit_status(kind: type[errors.AdapterBankError]):
    error = kind("what happened", hint="adapterbank doctor")
    told = failing(error, "list")
    assert (told.code, told.out) == (kind.exit_code, "")
    assert told.err == "Error: what happened\nTry: adapterbank doctor\n"
    as_json = failing(error, "list", "--json")
    assert (as_json.code, as_json.out) == (kind.exit_code, "")
    details = [] if kind is errors.RefusedInputError else None
    assert json.loads(as_json.err) == {
        "error": {"code": kind.code, "message": "what happened", "hint": "adapterbank doctor", "details": details}
    }


def test_exit_statuses_are_distinct():
    statuses = [kind.exit_code for kind in errors.AdapterBankError.__subclasses__()]
    assert len({0, 1, 130, *statuses}) == 3 + len(statuses)


def test_every_problem_of_a_refused_input_is_told():
    problems = [errors.Problem("nan", "3 values are not finite", "lora_A"), errors.Problem("unpaired", "no lora_B")]
    told = failing(errors.RefusedInputError("refused", problems), "list")
    assert told.err == "Error: refused\n  [nan] 3 values are not finite (lora_A)\n  [unpaired] no lora_B\n"


def test_a_message_that_lists_its_problems_is_told_once():
    problems = [errors.Problem("no_config", "there is no adapter_config.json", "adapter_config.json")]
    told = failing(errors.RefusedInputError("refused, 1 problem:\n  no_config: there is no …", problems), "list")
    assert told.err == "Error: refused, 1 problem:\n  [no_config] there is no adapter_config.json\n"


def test_people_get_the_first_problems_and_programs_all():
    error = errors.RefusedInputError("refused", [errors.Problem("nan", f"tensor {i}") for i in range(24)])
    lines = failing(error, "list").err.splitlines()
    assert len(lines) == 22 and lines[-1] == "  … and 4 more; --json has all of them"
    assert len(failing(error, "list", "--json").error["details"]) == 24


def test_dependents_and_plain_details_are_told():
    edge = {"dependent": "version both@1", "needed": "version sql@1", "kind": "constituent"}
    told = failing(errors.InUseError("needed", details=[edge, "and more"]), "list")
    assert told.err == "Error: needed\n  version both@1 needs version sql@1 (constituent)\n  and more\n"


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (KeyError("x"), "unexpected", 1),
        (OSError(28, "No space left on device"), "storage", 9),
        (KeyboardInterrupt(), "interrupted", 130),
    ],
)
def test_what_is_none_of_ours(error: BaseException, code: str, status: int):
    told = failing(error, "list", "--json")
    assert (told.code, told.error["code"]) == (status, code)
    assert "Traceback" not in told.err


def test_debug_prints_the_traceback_before_and_after_the_command():
    for words in (("--debug", "list"), ("list", "--debug")):
        assert "Traceback" in failing(KeyError("x"), *words).err


@pytest.mark.parametrize(
    "words",
    [
        ("nonsense",),
        ("list", "--nonsense"),
        ("show",),
        ("list", "--limit", "many"),
        ("register", "x", "--name", "a", "--metric", "acc=good"),
        ("register", "x", "--name", "a", "--tag", "novalue"),
        ("alias", "set", "sql@3", "1"),
        ("alias", "set", "sql@prod", "0"),
        ("alias", "set", "sql@prod", "1", "--expect", "never"),
        ("basis", "build", "b", "x", "--gauge", "other"),
        ("compact", "x", "--level", "lossless"),
    ],
)
def test_usage_errors_exit_with_2(words: tuple[str, ...]):
    told = invoke(*words)
    assert (told.code, told.out) == (2, "")
    assert told.err.startswith("Error: ")
    as_json = invoke(*words, "--json")
    assert (as_json.code, as_json.error["code"]) == (2, "usage")


def test_a_usage_error_names_the_help():
    assert invoke("basis", "show").err.endswith("Try: adapterbank basis show --help\n")
