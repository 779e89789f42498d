"""Base models: one row, many names."""

import pytest

from adapterbank.catalog import base_models, digests, search, versions
from adapterbank.catalog.session import Catalog
from adapterbank.errors import ConflictError, NotFoundError, UsageError
from tests.catalog import make


def test_every_name_leads_to_the_one_model(catalog: Catalog) -> None:
    with catalog.writing() as tx:
        model = base_models.add(tx, "org/model", fingerprint="abc")
        assert base_models.alias(tx, "org/model", "./models/m").aliases == ("./models/m",)
        base_models.alias(tx, "./models/m", "served")
        for name in ("org/model", "./models/m", "served"):
            assert base_models.resolve(tx, name).id == model.id
            assert base_models.get_or_create(tx, name).id == model.id
        assert base_models.get_or_create(tx, "org/other").id != model.id
        assert [(m.name, m.aliases) for m in base_models.listing(tx)] == [
            ("org/model", ("./models/m", "served")),
            ("org/other", ()),
        ]


def test_versions_carry_the_canonical_name(catalog: Catalog) -> None:
    with catalog.writing() as tx:
        base_models.add(tx, "org/model")
        base_models.alias(tx, "org/model", "local")
        assert make.add(tx, base_model="local").base_model == "org/model"
        assert make.add_basis(tx, base_model="local").base_model == "org/model"
        assert [v.ref for v in search.versions(tx, where="base=local")] == ["sql@1"]
        assert versions.get(tx, "sql").base_model == "org/model"


def test_facts_are_filled_in_but_never_changed(catalog: Catalog) -> None:
    with catalog.writing() as tx:
        base_models.add(tx, "m")
        assert base_models.add(tx, "m", fingerprint="f").fingerprint == "f"
        assert base_models.add(tx, "m", fingerprint="f", quantization="nf4").quantization == "nf4"
        assert base_models.add(tx, "m").fingerprint == "f"
        with pytest.raises(ConflictError, match="fingerprint"):
            base_models.add(tx, "m", fingerprint="g")
        with pytest.raises(ConflictError, match="quantization"):
            base_models.add(tx, "m", quantization="int8")


def test_an_alias_means_one_model(catalog: Catalog) -> None:
    with catalog.writing() as tx:
        base_models.add(tx, "a")
        base_models.add(tx, "b")
        base_models.alias(tx, "a", "x")
        assert base_models.alias(tx, "a", "x").aliases == ("x",)
        for taken in ("x", "a"):
            with pytest.raises(ConflictError, match="means the base model 'a'"):
                base_models.alias(tx, "b", taken)


def test_joined_models_are_one_and_everything_comes_along(catalog: Catalog) -> None:
    with catalog.writing() as tx:
        base_models.add(tx, "kept", quantization="nf4")
        base_models.alias(tx, "kept", "k")
        base_models.add(tx, "gone")
        base_models.alias(tx, "gone", "g")
        version = versions.add(tx, make.new_version(base_model="g"))
        assert version.base_model == "gone"
        assert base_models.join(tx, "k", "g").aliases == ("g", "gone", "k")
        assert versions.get(tx, version.ref).base_model == "kept"
        assert [model.name for model in base_models.listing(tx)] == ["kept"]
        assert list(digests.verify_rows(tx)) == []
        with pytest.raises(UsageError, match="one base model already"):
            base_models.join(tx, "kept", "gone")
        base_models.add(tx, "another", quantization="int8")
        with pytest.raises(ConflictError, match="quantization"):
            base_models.join(tx, "kept", "another")


@pytest.mark.parametrize("name", ["", " ", " a", "a\n", "x" * 513, "a\0b"])
def test_names_that_are_not_allowed(catalog: Catalog, name: str) -> None:
    with catalog.writing() as tx, pytest.raises(UsageError, match="not allowed"):
        base_models.get_or_create(tx, name)


def test_an_unknown_model_names_those_that_are_known(catalog: Catalog) -> None:
    with catalog.writing() as tx:
        base_models.add(tx, "org/model")
        with pytest.raises(NotFoundError, match="known: org/model"):
            base_models.resolve(tx, "org/none")
