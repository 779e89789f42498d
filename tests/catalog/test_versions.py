"""Versions: numbers, references, what a row keeps."""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, event

from adapterbank.catalog import aliases, labels, removal, search, tables, versions
from adapterbank.catalog.session import Catalog
from adapterbank.errors import ConflictError, NotFoundError, UsageError
from adapterbank.lora.layout import Layout, ModuleShape
from tests.catalog import make


def test_what_is_added_comes_back(catalog: Catalog) -> None:
    new = make.new_version(
        alpha=0.1,
        rslora=True,
        tags={"b": "2", "a": "1"},
        metrics={"acc": 0.1},
        note="n",
        carried=("head.weight",),
        method="ties",
    )
    with catalog.writing() as tx:
        versions.add(tx, new)
    with catalog.reading() as tx:
        version = versions.get(tx, "sql")
    same = ("name", "base_model", "files", "content", "config", "weights", "kind", "dtype", "rank", "alpha", "rslora")
    assert {field: getattr(version, field) for field in same} == {field: getattr(new, field) for field in same}
    assert version.ref == "sql@1"
    assert version.level == "original"
    assert version.modules == tuple(Layout.of(make.MODULES))
    assert version.target_modules == ("q_proj", "v_proj")
    assert version.bytes == 1010
    assert (version.tags, version.metrics, version.note) == ({"a": "1", "b": "2"}, {"acc": 0.1}, "n")
    assert (version.carried, version.method, version.aliases, version.parent) == (("head.weight",), "ties", (), None)


def test_numbers_count_per_name_and_are_never_given_again(catalog: Catalog) -> None:
    with catalog.writing() as tx:
        assert [make.add(tx, "sql", k).number for k in range(3)] == [1, 2, 3]
        assert make.add(tx, "math").number == 1
    with catalog.writing() as tx:
        gone = versions.get(tx, "sql@3")
        removal.remove_versions(tx, [gone])
    with catalog.writing() as tx:
        again = make.add(tx, "sql", 2)
        assert (again.number, again.files) == (4, gone.files)
        assert again.id > gone.id
        removal.remove_versions(tx, versions.of_name(tx, "sql"))
    with catalog.writing() as tx:
        with pytest.raises(NotFoundError, match="no version left"):
            versions.get(tx, "sql")
        assert versions.of_name(tx, "sql") == []
        newest = make.add(tx, "sql", 9)
        assert newest.number == 5
        assert newest.id > again.id


def test_references(catalog: Catalog) -> None:
    with catalog.writing() as tx:
        added = [make.add(tx, "sql", k) for k in range(3)]
        aliases.set_alias(tx, "sql", "prod", 2)
    with catalog.reading() as tx:
        assert versions.get(tx, "sql").number == 3
        assert versions.get(tx, "sql@1").number == 1
        assert versions.get(tx, "sql@prod").aliases == ("prod",)
        for version in added:
            assert versions.get(tx, f"sha256:{version.files[:8]}").id == version.id
            assert versions.get(tx, f"sha256:{version.files}").id == version.id


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("none", "no adapter is called 'none'"),
        ("sql@7", r"no version 7 \(it has: 1\)"),
        ("sql@beta", r"no alias 'beta' \(it has: prod\)"),
        ("SQL", "no adapter is called 'SQL'"),
        ("sha256:00000000", "no version has files"),
    ],
)
def test_what_does_not_exist_is_said(catalog: Catalog, ref: str, message: str) -> None:
    with catalog.writing() as tx:
        make.add(tx)
        aliases.set_alias(tx, "sql", "prod", 1)
    with catalog.reading() as tx, pytest.raises(NotFoundError, match=message) as caught:
        versions.get(tx, ref)
    assert caught.value.hint
    assert ("sql" in str(caught.value.hint)) == (ref not in ("none", "sha256:00000000"))


def test_an_ambiguous_prefix_lists_its_versions(catalog: Catalog) -> None:
    with catalog.writing() as tx:
        make.add(tx, "a", files="ab" * 32)
        make.add(tx, "b", files="ab" * 31 + "cd")
    with catalog.reading() as tx:
        with pytest.raises(ConflictError, match="a@1, b@1"):
            versions.get(tx, "sha256:" + "ab" * 5)
        assert versions.get(tx, "sha256:" + "ab" * 31 + "c").ref == "b@1"


def test_a_name_that_differs_only_in_case_is_a_conflict(catalog: Catalog) -> None:
    with catalog.writing() as tx:
        make.add(tx, "Sql")
    with catalog.writing() as tx, pytest.raises(ConflictError, match="differs only in case from 'Sql'"):
        make.add(tx, "sQL", 1)


def test_a_basis_may_have_the_name_of_an_adapter(catalog: Catalog) -> None:
    with catalog.writing() as tx:
        make.add(tx, "same")
        assert make.add_basis(tx, "Same").ref == "Same@1"


def test_find_by_digest(catalog: Catalog) -> None:
    with catalog.writing() as tx:
        first = make.add(tx, "a", 1)
        second = make.add(tx, "b", 2, content=first.content)
    with catalog.reading() as tx:
        assert versions.find_by_files(tx, first.files) == first
        assert versions.find_by_files(tx, first.files, "a") == first
        assert versions.find_by_files(tx, first.files, "b") is None
        assert versions.find_by_content(tx, first.content) == second
        assert versions.find_by_content(tx, first.content, "a") == first
        assert versions.find_by_content(tx, make.digest("none")) is None


def test_the_same_files_twice_under_one_name_is_a_conflict(catalog: Catalog) -> None:
    with catalog.writing() as tx:
        make.add(tx)
    with pytest.raises(ConflictError), catalog.writing() as tx:
        make.add(tx)


def test_a_parent_must_exist_and_is_kept_by_number(catalog: Catalog) -> None:
    with catalog.writing() as tx:
        first = make.add(tx)
        aliases.set_alias(tx, "sql", "prod", 1)
        assert make.add(tx, seed=1, parent="sql@prod").parent == "sql@1"
        removal_of_parent = versions.get(tx, "sql@2")
        aliases.remove(tx, "sql", "prod")
        removal.remove_versions(tx, [first])
        assert versions.get(tx, "sql@2") == removal_of_parent
    with catalog.writing() as tx, pytest.raises(NotFoundError):
        make.add(tx, seed=2, parent="sql@1")


def test_equal_layouts_share_one_row(catalog: Catalog) -> None:
    other = (ModuleShape("x", 4, 4, 2),)
    with catalog.writing() as tx:
        for k in range(5):
            make.add(tx, "sql", k, modules=make.MODULES[:: -1 if k % 2 else 1])
        make.add(tx, "sql", 9, modules=other)
    with catalog.reading() as tx:
        assert tx.exec_driver_sql("SELECT count(*) FROM layouts").scalar() == 2
        assert versions.get(tx, "sql").modules == other
        assert versions.get(tx, "sql@1").modules == versions.get(tx, "sql@2").modules


def count_statements(catalog: Catalog, action: Callable[[Connection], object]) -> int:
    seen: list[str] = []
    with catalog.reading() as tx:
        event.listen(tx, "before_cursor_execute", lambda *args: seen.append(args[2]))
        action(tx)
    return len(seen)


def test_a_look_up_takes_two_statements_and_a_list_does_not_grow(catalog: Catalog) -> None:
    with catalog.writing() as tx:
        for k in range(30):
            make.add(tx, f"a{k}", tags={"k": str(k)}, metrics={"k": k})
        aliases.set_alias(tx, "a1", "prod", 1)
    for ref in ("a1", "a1@1", "a1@prod", f"sha256:{make.digest('a1', 0, 'files')[:12]}"):
        assert count_statements(catalog, lambda tx, ref=ref: versions.get(tx, ref)) == 2
    assert count_statements(catalog, lambda tx: search.versions(tx, limit=2)) == 3
    assert count_statements(catalog, search.versions) == 3


def test_labels_change_without_a_new_version(catalog: Catalog) -> None:
    with catalog.writing() as tx:
        version = make.add(tx, tags={"a": "1", "b": "2"}, metrics={"acc": 0.5, "f1": 0.1})
        changed = labels.label(tx, version, tags={"a": "x"}, metrics={"acc": 1, "f1": None}, note="hello", untag=["b", "none"])
        assert (changed.tags, changed.metrics, changed.note) == ({"a": "x"}, {"acc": 1.0}, "hello")
        assert (changed.id, changed.number) == (version.id, version.number)
        assert labels.label(tx, version).note == "hello"
        assert labels.label(tx, version, note="").note is None


@pytest.mark.parametrize(
    "change",
    [
        {"tags": {"a b": "1"}},
        {"tags": {"a": "x" * 501}},
        {"tags": {"a": "\0"}},
        {"metrics": {"acc": float("nan")}},
        {"metrics": {"acc": float("inf")}},
        {"metrics": {"": 1.0}},
        {"note": "x" * 65_537},
    ],
)
def test_labels_that_are_not_allowed(catalog: Catalog, change: dict[str, object]) -> None:
    with catalog.writing() as tx:
        version = make.add(tx)
        with pytest.raises(UsageError):
            labels.label(tx, version, **change)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    note=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60).filter(bool),
    metric=st.floats(allow_nan=False, allow_infinity=False),
    alpha=st.floats(min_value=-1e300, max_value=1e300),
    size=st.integers(0, 2**62),
)
def test_any_value_comes_back_exactly(catalog: Catalog, note: str, metric: float, alpha: float, size: int) -> None:
    with catalog.writing(dry_run=True) as tx:
        version = make.add(tx, alpha=alpha, note=note, metrics={"m": metric}, tags={"t": note}, weights_size=size)
        assert (version.alpha, version.note, version.metrics, version.tags) == (alpha, note, {"m": metric}, {"t": note})
        assert version.bytes == size + 10


def test_an_id_is_not_given_again_after_the_newest_node_is_gone(catalog: Catalog) -> None:
    with catalog.writing() as tx:
        version = make.add(tx)
        removal.remove_versions(tx, [version])
        highest = tx.exec_driver_sql("SELECT seq FROM sqlite_sequence WHERE name = 'nodes'").scalar()
        assert tx.execute(tables.nodes.select()).all() == []
        assert make.add(tx, seed=1).id > highest
