"""Options come from signatures, and from the command line as text."""

from typing import Annotated, Literal

import pytest

from adapterbank.errors import UsageError
from adapterbank.merge.options import Hint, options_of, parse_options


def example(
    inputs: object,
    *,
    density: Annotated[float, Hint("share", above=0.0, at_most=1.0)] = 0.2,
    steps: Annotated[int, Hint("how many")] = 3,
    exact: Annotated[bool, Hint("whether")] = False,
    scope: Annotated[Literal["module", "model"], Hint("where")] = "module",
) -> None: ...


OPTIONS = options_of(example)


def test_the_signature_declares_them():
    assert [(o.name, o.type, o.default, o.choices) for o in OPTIONS] == [
        ("density", float, 0.2, ()),
        ("steps", int, 3, ()),
        ("exact", bool, False, ()),
        ("scope", str, "module", ("module", "model")),
    ]


def test_text_and_values_parse_alike():
    text = {"density": "0.5", "steps": "7", "exact": "true", "scope": "model"}
    values = {"density": 0.5, "steps": 7, "exact": True, "scope": "model"}
    assert parse_options("x", OPTIONS, text) == parse_options("x", OPTIONS, values) == values


def test_what_is_not_given_has_its_default():
    assert parse_options("x", OPTIONS, {}) == {"density": 0.2, "steps": 3, "exact": False, "scope": "module"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("density", "0"), ("density", 1.01), ("density", "half"), ("density", True), ("density", None), ("density", "inf"),
        ("steps", "1.5"), ("steps", 1.5), ("steps", True), ("exact", "maybe"), ("exact", 2), ("scope", "Module"),
    ],
)  # fmt: skip
def test_a_bad_value_is_named_with_what_was_expected(name, value):
    with pytest.raises(UsageError, match=rf"option {name}: got {value!r}, expected "):
        parse_options("x", OPTIONS, {name: value})


def test_an_unknown_option_lists_those_that_exist():
    with pytest.raises(UsageError) as error:
        parse_options("x", OPTIONS, {"scale": 1})
    assert "density (a number above 0 and at most 1; default 0.2)" in error.value.hint


def bounded(*, ridge: Annotated[float, Hint("added", at_least=0.0, at_most=1.0)] = 0.5) -> None: ...


def test_a_bound_may_itself_be_allowed():
    options = options_of(bounded)
    assert [parse_options("x", options, {"ridge": text})["ridge"] for text in ("0", "1")] == [0.0, 1.0]
    for wrong in ("-0.1", "1.1"):
        with pytest.raises(UsageError, match="expected a number at least 0 and at most 1"):
            parse_options("x", options, {"ridge": wrong})
