"""Stored forms: those coded on their own, those coded against another, and what that forbids."""

import pytest
from sqlalchemy import Connection

from adapterbank.catalog import digests, edges, levels, members, removal, tables
from adapterbank.catalog.rows import Basis, Edge, Member, NewMember, Version
from adapterbank.catalog.session import Catalog
from adapterbank.errors import ConflictError, InUseError, UsageError
from tests.catalog import make


def form(word: str, error: float = 0.1, *, codec: str = "rd", references: tuple[str, ...] = ()) -> NewMember:
    return NewMember(make.digest(word), 40, error, codec=codec, references=references)


def chain(tx: Connection) -> tuple[Basis, list[Version], list[Member]]:
    """A collection whose second form was coded against the first."""
    basis = make.add_basis(tx, codec="rd", components=0)
    versions = [make.add(tx, "sql", 1), make.add(tx, "sql", 2)]
    first = members.add(tx, basis, versions[0], form("first"))
    return basis, versions, [first, members.add(tx, basis, versions[1], form("second", references=(first.object,)))]


def test_a_form_of_its_own_comes_back(catalog: Catalog) -> None:
    with catalog.writing() as tx:
        sql, basis = make.add(tx, "sql"), make.add_basis(tx)
        make.add_member(tx, basis, sql, 0.3)
        members.add(tx, None, sql, form("coded", 0.2))
        members.add(tx, None, sql, form("fixed", 0.4, codec="fixed"))
    with catalog.reading() as tx:
        found = members.alone(tx, sql, "rd")
        assert found is not None
        assert (found.basis, found.codec, found.version, found.references, found.error) == (None, "rd", "sql@1", (), 0.2)
        assert [(m.basis, m.codec) for m in members.of_version(tx, sql)] == [(None, "rd"), ("b1@1", "rmm"), (None, "fixed")]
        assert edges.needs(tx, found.id) == [Edge("form rd of sql@1", f"object sha256:{found.object[:12]}", "form")]
        assert members.of_basis(tx, basis)[0].basis == "b1@1"
        assert list(digests.verify_rows(tx)) == []


def test_a_version_has_one_form_of_its_own_per_codec(catalog: Catalog) -> None:
    with catalog.writing() as tx:
        sql = make.add(tx, "sql")
        held = members.add(tx, None, sql, form("a"))
        with pytest.raises(ConflictError, match="sql@1 is coded as rd on its own already"):
            members.add(tx, None, sql, form("b"))
    with pytest.raises(ConflictError, match="UNIQUE"), catalog.writing() as tx:  # the database says so itself
        row = dict(tx.execute(tables.members.select()).mappings().one()) | {"id": held.id + 1}
        tx.execute(tables.nodes.insert(), {"id": held.id + 1, "kind": "member"})
        tx.execute(tables.members.insert(), row)


@pytest.mark.parametrize("codec", ["rmm", "zip"])
def test_a_codec_that_cannot_stand_alone_is_refused(catalog: Catalog, codec: str) -> None:
    with pytest.raises(ConflictError, match="CHECK"), catalog.writing() as tx:
        members.add(tx, None, make.add(tx), form("a", codec=codec))


def test_a_form_coded_against_another_names_it_and_holds_it(catalog: Catalog) -> None:
    with catalog.writing() as tx:
        _, versions, (first, second) = chain(tx)
        assert (second.references, second.reference_objects) == (("sql@1",), (first.object,))
        assert (first.references, first.reference_objects) == ((), ())
        assert Edge("member sql@2 of b1@1", "member sql@1 of b1@1", "reference") in edges.needs(tx, second.id)
        with pytest.raises(InUseError, match="version sql@1 is needed by member sql@2 of b1@1") as caught:
            removal.remove_versions(tx, versions[:1])
        assert "basis rebuild" in str(caught.value.hint)
        with pytest.raises(InUseError, match="member sql@1 of b1@1 is needed by member sql@2 of b1@1"):
            removal.remove_member(tx, first)
        assert list(digests.verify_rows(tx)) == []


def test_both_go_together_in_any_order_and_so_does_their_basis(catalog: Catalog) -> None:
    with catalog.writing() as tx:
        basis, versions, forms = chain(tx)
        objects = {basis.object, *(form.object for form in forms)}
        assert {gone.digest for gone in removal.remove_basis(tx, basis)} == objects
        basis = make.add_basis(tx, "b2", codec="rd")
        late = members.add(tx, basis, versions[1], form("late"))
        members.add(tx, basis, versions[0], form("early", references=(late.object,)))  # the older one needs the younger one
        assert {late.object, versions[0].weights} <= {gone.digest for gone in removal.remove_versions(tx, versions)}
        assert list(digests.verify_rows(tx)) == []


def test_references_are_of_the_same_basis_and_need_only_those_before_them(catalog: Catalog) -> None:
    with catalog.writing() as tx:
        basis, _, (first, second) = chain(tx)
        other, third = make.add_basis(tx, "b2", codec="rd"), make.add(tx, "sql", 3)
        for place, needed in ((basis, [second]), (basis, [second, first]), (other, [first]), (None, [first])):
            with pytest.raises(UsageError, match="needs only what is named before it"):
                members.add(tx, place, third, form("third", references=tuple(each.object for each in needed)))
        added = members.add(tx, basis, third, form("third", references=(first.object, second.object)))
        assert added.references == ("sql@1", "sql@2") and members.of_version(tx, third) == [added]
        with pytest.raises(InUseError, match="member sql@3 of b1@1"):
            removal.remove_member(tx, second)
        assert list(digests.verify_rows(tx)) == []


def test_a_form_that_stands_for_a_version_stays(catalog: Catalog) -> None:
    with catalog.writing() as tx:
        sql = make.add(tx, "sql")
        held = members.add(tx, None, sql, form("coded"))
        levels.set_level(tx, sql, "bounded", held)
        with pytest.raises(InUseError, match="form rd of sql@1 is needed by version sql@1"):
            removal.remove_member(tx, held)
        assert list(digests.verify_rows(tx)) == []


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("DELETE FROM edges WHERE kind = 'reference'", "'reference'"),
        ("UPDATE members SET reference_objects = '[]'", "'reference'"),
        ("UPDATE members SET basis_id = NULL WHERE reference_objects <> '[]'", "'reference'"),
        ("UPDATE members SET basis_id = NULL WHERE reference_objects <> '[]'", "'member'"),
        ("UPDATE members SET codec = 'fixed'", "digest"),
    ],
)
def test_damage_is_found(catalog: Catalog, damage: str, told: str) -> None:
    with catalog.writing() as tx:
        chain(tx)
        tx.exec_driver_sql(damage)
        assert any(told in problem.message for problem in digests.verify_rows(tx))
