"""What needs what: removal and levels ask the one table of edges, and so does the database itself."""

import pytest

from adapterbank.catalog import digests, edges, levels, members, objects, recipes, removal, tables, versions
from adapterbank.catalog.rows import Edge, StoredObject
from adapterbank.catalog.session import Catalog
from adapterbank.errors import AdapterBankError, IntegrityError, InUseError, UsageError
from tests.catalog import make


def clean(catalog: Catalog) -> None:
    with catalog.reading() as tx:
        assert list(digests.verify_rows(tx)) == []
        assert objects.unreferenced(tx) == []


def test_removal_takes_what_was_its_own_and_releases_objects(catalog: Catalog) -> None:
    with catalog.writing() as tx:
        version = make.add(tx, tags={"a": "b"}, metrics={"m": 1})
        basis = make.add_basis(tx)
        member = make.add_member(tx, basis, version)
        kept = [stored.digest for stored in objects.listing(tx)]
        gone = removal.remove_versions(tx, [version])
    assert {stored.digest for stored in gone} == {version.config, version.weights, member.object}
    with catalog.reading() as tx:
        assert objects.released(tx) == sorted(gone, key=lambda stored: stored.digest)
        assert [stored.digest for stored in objects.listing(tx)] == [digest for digest in kept if digest == basis.object]
        assert members.of_basis(tx, basis) == []
        assert [tx.execute(table.select()).all() for table in (tables.tags, tables.metrics, tables.versions)] == [[], [], []]
    with catalog.writing() as tx:
        objects.forget_released(tx, [stored.digest for stored in gone])
        assert objects.released(tx) == []
    clean(catalog)


def test_shared_objects_stay_until_the_last_one_goes(catalog: Catalog) -> None:
    with catalog.writing() as tx:
        first, second = make.add(tx, "a", config="c" * 64), make.add(tx, "b", config="c" * 64)
        assert [stored.digest for stored in removal.remove_versions(tx, [first])] == [first.weights]
        assert {stored.digest for stored in removal.remove_versions(tx, [second])} == {"c" * 64, second.weights}
    clean(catalog)


def test_an_object_that_is_wanted_again_is_not_released_any_more(catalog: Catalog) -> None:
    with catalog.writing() as tx:
        version = make.add(tx)
        removal.remove_versions(tx, [version])
        make.add(tx, "other", weights=version.weights)
        assert [stored.digest for stored in objects.released(tx)] == [version.config]


def test_an_object_of_another_size_is_refused(catalog: Catalog) -> None:
    with catalog.writing() as tx, pytest.raises(IntegrityError, match="has 7 bytes, the catalog says 1000"):
        make.add(tx, "other", weights=make.add(tx).weights, weights_size=7)


def test_forgetting_takes_a_row_that_nothing_needs(catalog: Catalog) -> None:
    with catalog.writing() as tx:
        objects.register(tx, "a" * 64, 5)
        assert objects.unreferenced(tx) == [StoredObject("a" * 64, 5)]
        objects.forget_released(tx, ["a" * 64])
    clean(catalog)


def test_a_constituent_is_held_by_its_merge(catalog: Catalog) -> None:
    with catalog.writing() as tx:
        a, b = make.add(tx, "a"), make.add(tx, "b")
        mix = make.add(tx, "mix", method="cat")
        recipe = recipes.add(
            tx, mix, method="cat", body={"seed": 1}, residual=0, environment={"torch": "2.13"}, constituents=[a, b, a]
        )
        assert recipes.get(tx, mix) == recipe
        assert recipes.get(tx, a) is None
        assert edges.dependents(tx, a.id) == [Edge("version mix@1", "version a@1", "constituent")]
        assert levels.merges_needing(tx, a) == ["mix@1"]
        with pytest.raises(InUseError, match="version mix@1"):
            removal.remove_versions(tx, [a])
        assert removal.remove_versions(tx, [a, mix, b])
    clean(catalog)


def test_a_bounded_version_holds_its_member_and_basis(catalog: Catalog) -> None:
    with catalog.writing() as tx:
        version, other, basis = make.add(tx), make.add(tx, "other"), make.add_basis(tx)
        member = make.add_member(tx, basis, version)
        make.add_member(tx, basis, other)
        bounded = levels.set_level(tx, version, "bounded", member)
        assert bounded.level == "bounded"
        assert objects.released(tx) == [StoredObject(version.weights, 1000)]
        assert levels.bounded_member(tx, bounded) == member
        assert levels.bounded_member(tx, other) is None
        held = [Edge("version sql@1", "member sql@1 of b1@1", "bounded")]
        assert removal.blockers(tx, basis.id) == edges.dependents(tx, member.id) == held
        assert removal.blockers(tx, version.id) == []
        for refuse in (lambda: removal.remove_basis(tx, basis), lambda: removal.remove_member(tx, member)):
            with pytest.raises(InUseError, match="version sql@1"):
                refuse()
    clean(catalog)
    with catalog.writing() as tx:
        removal.remove_versions(tx, [bounded])
        removal.remove_basis(tx, basis)
        assert [v.ref for v in versions.of_name(tx, "other")] == ["other@1"]
    clean(catalog)


def test_exact_again_when_the_bytes_are_back(catalog: Catalog) -> None:
    with catalog.writing() as tx:
        version, basis = make.add(tx), make.add_basis(tx)
        bounded = levels.set_level(tx, version, "bounded", make.add_member(tx, basis, version))
        assert levels.set_level(tx, bounded, "original") == version
        assert objects.released(tx) == []
        removal.remove_basis(tx, basis)
    clean(catalog)


def test_levels_that_cannot_be(catalog: Catalog) -> None:
    with catalog.writing() as tx:
        version, other, basis = make.add(tx), make.add(tx, "other"), make.add_basis(tx)
        with pytest.raises(UsageError, match="already"):
            levels.set_level(tx, version, "original")
        for member in (None, make.add_member(tx, basis, other)):
            with pytest.raises(UsageError, match="of its own"):
                levels.set_level(tx, version, "bounded", member)


def test_labels_of_every_kind(catalog: Catalog) -> None:
    with catalog.writing() as tx:
        version, basis = make.add(tx), make.add_basis(tx)
        member = make.add_member(tx, basis, version)
        assert edges.needs(tx, member.id) == [
            Edge("member sql@1 of b1@1", "basis b1@1", "member"),
            Edge("member sql@1 of b1@1", f"object sha256:{member.object[:12]}", "form"),
        ]
        assert [edge.kind for edge in edges.needs(tx, version.id)] == ["config", "weights"]
        assert edges.needs(tx, basis.id) == [Edge("basis b1@1", f"object sha256:{basis.object[:12]}", "basis")]


@pytest.mark.parametrize("kind", ["config", "weights", "basis", "form", "bounded", "member", "constituent"])
def test_the_database_itself_restricts(catalog: Catalog, kind: str) -> None:
    """Whoever forgets to ask is refused all the same, and so is a removal of the row behind the node."""
    make.fill(catalog)
    with catalog.reading() as tx:
        needed = edges.pairs(tx, tables.edges.c.kind == kind)[0][1]
    with pytest.raises(AdapterBankError) as caught, catalog.writing() as tx:
        for table in (tables.recipes, tables.aliases, tables.members, tables.versions, tables.bases, tables.objects):
            column = table.c.id if "id" in table.c else table.c.version_id
            tx.execute(table.delete().where(column == needed))
        tx.execute(tables.nodes.delete().where(tables.nodes.c.id == needed))
    assert isinstance(caught.value, InUseError)
    clean(catalog)
