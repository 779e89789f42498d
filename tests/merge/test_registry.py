"""The table, and methods of other packages."""

from importlib.metadata import EntryPoint
from importlib.resources import files

import pytest

from adapterbank.errors import UsageError
from adapterbank.merge import METHODS, Method, all_methods, find, methods, registry
from tests.merge.factories import adapter, run

FOREIGN = Method("foreign", METHODS["svd"].merge, "linear", "theirs", "M = Σ w·ΔW", "nowhere", {})


@pytest.fixture
def plugins(monkeypatch):
    points = [
        EntryPoint("foreign", "tests.merge.test_registry:FOREIGN", registry.GROUP),
        EntryPoint("ties", "tests.merge.test_registry:FOREIGN", registry.GROUP),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: points if group == registry.GROUP else [])
    return points


def test_every_file_has_a_row_and_every_row_is_its_functions_name():
    found = {path.name.removesuffix(".py") for path in files(methods).iterdir() if path.name.endswith(".py")}
    assert found - {"__init__"} == {method.merge.__module__.rpartition(".")[2] for method in METHODS.values()}
    assert all(name == method.name == method.merge.__name__ for name, method in METHODS.items())


def test_every_row_is_complete():
    for method in METHODS.values():
        assert all((method.summary, method.formula, method.source, method.merge.__doc__))
        assert all(option.hint.help for option in method.options)
        assert [option.parse(str(option.default)) for option in method.options] == [o.default for o in method.options]


def test_another_package_adds_a_method_but_cannot_replace_one(plugins):
    assert find("foreign") is FOREIGN
    assert find("ties") is METHODS["ties"]
    assert list(all_methods()) == [*METHODS, "foreign"]
    assert run("foreign", [adapter(1)]).rank == 3


def test_looking_up_a_method_of_the_table_loads_no_other(plugins):
    plugins.append(EntryPoint("broken", "no.such.module:METHOD", registry.GROUP))
    assert find("svd") is METHODS["svd"]
    with pytest.raises(UsageError, match=r"'broken' of 'no\.such\.module:METHOD' cannot be loaded"):
        find("broken")


def test_an_entry_point_that_is_no_method_is_named(plugins):
    plugins.append(EntryPoint("odd", "tests.merge.factories:DIMS", registry.GROUP))
    with pytest.raises(UsageError, match="is a dict, expected a Method"):
        find("odd")
