"""Bases and their members."""

import pytest

from adapterbank.catalog import bases, members, versions
from adapterbank.catalog.session import Catalog
from adapterbank.errors import ConflictError, NotFoundError, UsageError
from adapterbank.lora.layout import Layout, ModuleShape
from tests.catalog import make


def test_a_basis_comes_back(catalog: Catalog) -> None:
    layout = Layout.of_places([ModuleShape("a", 4, 4, 2), ModuleShape("a", 4, 4, 8), ModuleShape("b", 2, 2, 2)])
    with catalog.writing() as tx:
        first = make.add_basis(tx, layout=layout, error_kind="bound")
        second = make.add_basis(tx, seed=1)
        make.add_basis(tx, "c")
    with catalog.reading() as tx:
        assert bases.get(tx, "b1") == second
        found = bases.get(tx, "b1@1")
        assert found == first
        assert (found.layout, found.error_kind, found.error_mean, found.error_worst) == (layout, "bound", 0.1, 0.2)
        assert (found.codec, found.gauge, found.components, found.dtype, found.bytes) == ("rmm", "svd", 2, "float32", 500)
        assert [b.ref for b in bases.listing(tx)] == ["b1@1", "b1@2", "c@1"]
        assert [b.ref for b in bases.listing(tx, "b1")] == ["b1@1", "b1@2"]


@pytest.mark.parametrize("ref", ["b1@prod", "sha256:00000000"])
def test_other_references_are_a_usage_error(catalog: Catalog, ref: str) -> None:
    with catalog.reading() as tx, pytest.raises(UsageError, match="name@number"):
        bases.get(tx, ref)


def test_a_basis_that_does_not_exist(catalog: Catalog) -> None:
    with catalog.writing() as tx:
        make.add_basis(tx)
        make.add_basis(tx)
        told = {"b2": "no basis is called 'b2'", "b1@3": "'b1' has versions 1, 2", "B1": "no basis is called 'B1'"}
        for (ref, message), hint in zip(told.items(), ("basis list", "basis list b1", "b1"), strict=True):
            with pytest.raises(NotFoundError, match=message) as caught:
                bases.get(tx, ref)
            assert hint in str(caught.value.hint)


def test_members_and_their_errors(catalog: Catalog) -> None:
    with catalog.writing() as tx:
        sql, math = make.add(tx, "sql"), make.add(tx, "math")
        coarse, fine = make.add_basis(tx, "coarse"), make.add_basis(tx, "fine")
        errors = {"layers.0.q_proj": 0.25, "layers.2.q_proj": 0.0}
        make.add_member(tx, coarse, sql, 0.5, module_errors=errors, absent=("z", "a"), error_kind="bound")
        make.add_member(tx, fine, sql, 0.1)
        make.add_member(tx, coarse, math, 0.2)
    with catalog.reading() as tx:
        member = members.get(tx, coarse, sql)
        assert (member.basis, member.version, member.error, member.error_kind) == ("coarse@1", "sql@1", 0.5, "bound")
        assert member.module_errors == errors
        assert member.absent == ("a", "z")
        assert [m.version for m in members.of_basis(tx, coarse)] == ["math@1", "sql@1"]
        assert [m.basis for m in members.of_version(tx, sql)] == ["fine@1", "coarse@1"]
        assert bases.get(tx, "coarse").members == 2
        with pytest.raises(NotFoundError, match="not a member"):
            members.get(tx, fine, math)


def test_a_version_is_a_member_once(catalog: Catalog) -> None:
    with catalog.writing() as tx:
        version, basis = make.add(tx), make.add_basis(tx)
        make.add_member(tx, basis, version)
        with pytest.raises(ConflictError, match="member of b1@1 already"):
            make.add_member(tx, basis, version)


def test_errors_of_modules_that_the_version_does_not_have(catalog: Catalog) -> None:
    with catalog.writing() as tx:
        version, basis = make.add(tx), make.add_basis(tx)
        with pytest.raises(UsageError, match="head"):
            make.add_member(tx, basis, version, module_errors={"head": 0.1})


def test_many_members_in_the_order_of_their_numbers(catalog: Catalog) -> None:
    with catalog.writing() as tx:
        basis = make.add_basis(tx)
        for k in range(12):
            make.add_member(tx, basis, make.add(tx, "sql", k))
        assert [m.version for m in members.of_basis(tx, basis)] == [v.ref for v in versions.of_name(tx, "sql")]
