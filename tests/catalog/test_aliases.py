"""Aliases: compare-and-swap and an append-only history."""

import pytest

from adapterbank.catalog import aliases, removal, versions
from adapterbank.catalog.rows import Alias
from adapterbank.catalog.session import Catalog
from adapterbank.errors import ConflictError, InUseError, NotFoundError, UsageError
from tests.catalog import make


@pytest.fixture(autouse=True)
def three_versions(catalog: Catalog) -> None:
    with catalog.writing() as tx:
        for k in range(3):
            make.add(tx, "sql", k)


def test_moves_are_kept(catalog: Catalog) -> None:
    with catalog.writing() as tx:
        aliases.set_alias(tx, "sql", "prod", 1, expect=None)
        aliases.set_alias(tx, "sql", "prod", 3, expect=1)
        aliases.set_alias(tx, "sql", "beta", 2)
        aliases.set_alias(tx, "sql", "prod", 2)
        assert aliases.listing(tx) == aliases.listing(tx, "sql") == [Alias("sql", "beta", 2), Alias("sql", "prod", 2)]
        aliases.remove(tx, "sql", "prod", expect=2)
        assert aliases.listing(tx) == [Alias("sql", "beta", 2)]
        events = [(event.alias, event.old, event.new) for event in aliases.history(tx, "sql")]
    assert events == [("prod", None, 1), ("prod", 1, 3), ("beta", None, 2), ("prod", 3, 2), ("prod", 2, None)]


def test_setting_what_is_set_is_no_move(catalog: Catalog) -> None:
    with catalog.writing() as tx:
        aliases.set_alias(tx, "sql", "prod", 1)
        event = aliases.set_alias(tx, "sql", "prod", 1, expect=1)
        assert (event.old, event.new) == (1, 1)
        assert len(aliases.history(tx, "sql")) == 1


@pytest.mark.parametrize(
    ("now", "expect", "message"),
    [
        (None, 1, "means nothing now, expected version 1"),
        (2, None, "means version 2 now, expected nothing"),
        (2, 3, "means version 2 now, expected version 3"),
    ],
)
def test_a_lost_swap_changes_nothing(catalog: Catalog, now: int | None, expect: int | None, message: str) -> None:
    with catalog.writing() as tx:
        if now is not None:
            aliases.set_alias(tx, "sql", "prod", now)
        before = aliases.listing(tx), aliases.history(tx, "sql")
        with pytest.raises(ConflictError, match=message):
            aliases.set_alias(tx, "sql", "prod", 1, expect=expect)
        if now is not None:
            with pytest.raises(ConflictError, match=message):
                aliases.remove(tx, "sql", "prod", expect=expect)
        assert (aliases.listing(tx), aliases.history(tx, "sql")) == before


def test_aliases_that_cannot_be(catalog: Catalog) -> None:
    with catalog.writing() as tx:
        with pytest.raises(UsageError, match="digits"):
            aliases.set_alias(tx, "sql", "7", 1)
        with pytest.raises(NotFoundError, match="version 9"):
            aliases.set_alias(tx, "sql", "prod", 9)
        with pytest.raises(NotFoundError, match="none"):
            aliases.set_alias(tx, "none", "prod", 1)
        with pytest.raises(NotFoundError, match="no alias"):
            aliases.remove(tx, "sql", "prod")
        for look in (aliases.listing, aliases.history):
            with pytest.raises(NotFoundError, match="none"):
                look(tx, "none")


def test_an_alias_holds_its_version_until_it_is_moved(catalog: Catalog) -> None:
    with catalog.writing() as tx:
        aliases.set_alias(tx, "sql", "prod", 1)
        with pytest.raises(InUseError, match="alias sql@prod") as caught:
            removal.remove_versions(tx, [versions.get(tx, "sql@1")])
        assert caught.value.details == [{"dependent": "alias sql@prod", "needed": "version sql@1", "kind": "alias"}]
        aliases.set_alias(tx, "sql", "prod", 2)
        removal.remove_versions(tx, [versions.get(tx, "sql@1")])
        assert [(event.old, event.new) for event in aliases.history(tx, "sql")] == [(None, 1), (1, 2)]
