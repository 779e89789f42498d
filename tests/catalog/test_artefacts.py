"""Artefacts: found by what they were made for, held by the merges that used them, and never without their versions."""

import pytest

from adapterbank.catalog import artefacts, digests, edges, objects, recipes, removal, tables
from adapterbank.catalog.rows import Edge
from adapterbank.catalog.session import Catalog
from adapterbank.errors import ConflictError, InUseError, NotFoundError, UsageError
from tests.catalog import make


def clean(catalog: Catalog) -> None:
    with catalog.reading() as tx:
        assert list(digests.verify_rows(tx)) == []
        assert objects.unreferenced(tx) == []


def test_statistics_and_coefficients_are_found_by_what_they_were_made_for(catalog: Catalog) -> None:
    with catalog.writing() as tx:
        a, b = make.add(tx, "a"), make.add(tx, "b")
        gram = artefacts.add(tx, make.new_artefact(a), [a])
        later = artefacts.add(tx, make.new_artefact(a, seed=1), [a])
        learned = artefacts.add(tx, make.new_artefact(a, b, kind="adamerging"), [b, a])
        assert artefacts.add(tx, make.new_artefact(a), [a]) == gram, "the same object is the same artefact"
        assert (gram.label, gram.family, gram.versions) == ("gram of a@1", "statistics", ("a@1",))
        assert (learned.family, learned.versions, learned.adapters) == (
            "coefficients", ("a@1", "b@1"), tuple(sorted((a.content, b.content))),
        )  # fmt: skip
        assert artefacts.newest(tx, "gram", [a.content]) == later
        assert artefacts.newest(tx, "adamerging", [b.content, a.content]) == learned
        assert artefacts.newest(tx, "gram", [b.content]) is None
        assert artefacts.listing(tx, version=b) == artefacts.listing(tx, family="coefficients") == [learned]
        assert artefacts.listing(tx, kind="gram") == [gram, later]
        assert artefacts.get(tx, learned.ref) == learned
        assert artefacts.of_objects(tx, [learned.object, gram.object]) == [learned, gram]
    clean(catalog)


def test_references_that_find_none_or_several(catalog: Catalog) -> None:
    with catalog.writing() as tx:
        a = make.add(tx, "a")
        for last in "12":
            new = make.new_artefact(a)
            artefacts.add(tx, type(new)("statistics", "gram", new.adapters, "ab12" + last * 60, 40), [a])
        with pytest.raises(ConflictError, match="ambiguous"):
            artefacts.get(tx, "sha256:ab12")
        assert artefacts.get(tx, "sha256:ab121").object == "ab12" + "1" * 60
        for wrong, error in (("gram", UsageError), ("sha256:xy", UsageError), ("sha256:ffff", NotFoundError)):
            with pytest.raises(error, match="artefact"):
                artefacts.get(tx, wrong)
        with pytest.raises(NotFoundError, match="no artefact"):
            artefacts.of_objects(tx, ["e" * 64])
        with pytest.raises(UsageError, match="is not one of a@1"):
            artefacts.add(tx, make.new_artefact(a, make.add(tx, "b")), [a])


def test_statistics_go_with_their_version_and_coefficients_hold_theirs(catalog: Catalog) -> None:
    with catalog.writing() as tx:
        a, b = make.add(tx, "a"), make.add(tx, "b")
        gram = artefacts.add(tx, make.new_artefact(a), [a])
        learned = artefacts.add(tx, make.new_artefact(a, b), [a, b])
        with pytest.raises(InUseError, match="version a@1 is needed by artefact gram sha256") as caught:
            removal.remove_versions(tx, [a])
        assert caught.value.hint is not None and "artefacts remove" in caught.value.hint
        assert [stored.digest for stored in removal.remove_artefacts(tx, [learned])] == [learned.object]
        assert gram.object in {stored.digest for stored in removal.remove_versions(tx, [a])}
        assert artefacts.listing(tx) == []
        assert removal.remove_versions(tx, [b])
    clean(catalog)


def test_a_merge_holds_what_it_used(catalog: Catalog) -> None:
    with catalog.writing() as tx:
        a, b = make.add(tx, "a"), make.add(tx, "b")
        used = [artefacts.add(tx, make.new_artefact(version), [version]) for version in (a, b)]
        mix = make.add(tx, "mix", method="regmean")
        body = {"artefacts": [artefact.object for artefact in used]}
        recipes.add(tx, mix, method="regmean", body=body, residual=0, environment={}, constituents=[a, b], artefacts=used)
        assert artefacts.used_by(tx, mix) == used
        assert edges.dependents(tx, used[0].id) == [Edge("version mix@1", f"artefact gram {used[0].ref}", "using")]
        with pytest.raises(InUseError, match="needed by version mix@1"):
            removal.remove_artefacts(tx, used[:1])
        clean_so_far = list(digests.verify_rows(tx))
        gone = {stored.digest for stored in removal.remove_versions(tx, [mix, a, b])}
        assert clean_so_far == [] and {artefact.object for artefact in used} <= gone
    clean(catalog)


@pytest.mark.parametrize("kind", ["of", "using", "artefact"])
def test_a_missing_edge_is_found(catalog: Catalog, kind: str) -> None:
    make.fill(catalog)
    clean(catalog)
    with catalog.writing() as tx:
        tx.execute(tables.edges.delete().where(tables.edges.c.kind == kind))
        found = [problem for problem in digests.verify_rows(tx) if problem.code == "edge"]
        assert found and all(kind in problem.message for problem in found)
