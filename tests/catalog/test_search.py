"""The search language against a slow evaluation in Python, its errors, and the order of lists."""

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapterbank.catalog import aliases, base_models, search
from adapterbank.catalog.rows import Version
from adapterbank.catalog.session import Catalog
from adapterbank.errors import NotFoundError, UsageError
from tests.catalog import make

COMPARE = {"=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
NUMBERS: dict[str, Callable[[Version], float]] = {
    "version": lambda v: v.number,
    "rank": lambda v: v.rank,
    "alpha": lambda v: v.alpha,
    "bytes": lambda v: v.bytes,
    "parameters": lambda v: v.parameters,
}
TEXTS: dict[str, Callable[[Version], str | None]] = {
    "name": lambda v: v.name,
    "base": lambda v: v.base_model,
    "level": lambda v: v.level,
    "kind": lambda v: v.kind,
    "dtype": lambda v: v.dtype,
    "method": lambda v: v.method,
}


@pytest.fixture(scope="module")
def bank(empty_bank: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    """Twelve versions that differ in every field that can be searched."""
    root = tmp_path_factory.mktemp("search")
    (root / "locks").mkdir()
    (root / "catalog.db").write_bytes((empty_bank / "catalog.db").read_bytes())
    with Catalog.open(root) as catalog:
        with catalog.writing() as tx:
            for k in range(12):
                make.add(
                    tx, ("sql", "Math-2", "a_b", "a%b".replace("%", "."))[k % 4], k,
                    base_model=("org/Llama-3", "org/bert")[k % 2], rank=(4, 8, 16)[k % 3], alpha=k / 2, rslora=k % 2 == 0,
                    weights_size=k * 100, parameters=k * k, dtype=("F32", "BF16")[k % 2], kind=("lora", "dora")[k % 3 == 0],
                    method=(None, "ties", "dare_ties")[k % 3],
                    tags={"task": ("sql", "50%_off", "Ünïcode")[k % 3], **({"acc": "high"} if k % 4 == 0 else {})},
                    metrics={"acc": k / 12, **({"f1": -1.5 * k} if k % 2 else {})},
                )  # fmt: skip
            aliases.set_alias(tx, "sql", "prod", 1)
            aliases.set_alias(tx, "sql", "beta", 2)
            base_models.alias(tx, "org/bert", "local-bert")
        yield catalog


@dataclass(frozen=True)
class Case:
    """An expression and what it means for one version, in plain Python."""

    text: str
    holds: Callable[[Version], bool]


def lower(text: str) -> str:
    """SQLite folds the case of ASCII letters only."""
    return "".join(c.lower() if c.isascii() else c for c in text)


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def text_holds(value: str | None, sign: str, wanted: str) -> bool:
    if value is None:
        return False
    return lower(wanted) in lower(value) if sign == "~" else COMPARE[sign](value.encode(), wanted.encode())


SIGNS = st.sampled_from(list(COMPARE))
VALUES = st.sampled_from(
    ["sql", "S", "%", "_", "0%_", "org/Llama-3", "llama", "F32", "lora", "ties", "Ü", "", "x y", 'q"q', "\\", "prod", "high"]
)
FIGURES = st.one_of(st.integers(-3, 20), st.sampled_from([0.5, 2.5, 1e3, 710]))


def numeric(name: str) -> st.SearchStrategy[Case]:
    return st.builds(lambda s, n: Case(f"{name} {s} {n}", lambda v: COMPARE[s](NUMBERS[name](v), n)), SIGNS, FIGURES)


def textual(name: str) -> st.SearchStrategy[Case]:
    signs = st.sampled_from([*COMPARE, "~"])
    return st.builds(lambda s, t: Case(f"{name}{s}{quoted(t)}", lambda v: text_holds(TEXTS[name](v), s, t)), signs, VALUES)


def tagged(name: str, prefix: str) -> st.SearchStrategy[Case]:
    signs = st.sampled_from([*COMPARE, "~"])
    return st.builds(
        lambda s, t: Case(f"{prefix}{name} {s} {quoted(t)}", lambda v: text_holds(v.tags.get(name), s, t)), signs, VALUES
    )


def measured(name: str, prefix: str) -> st.SearchStrategy[Case]:
    def holds(v: Version, s: str, n: float) -> bool:
        as_tag = prefix == "" and text_holds(v.tags.get(name), s, str(n))
        return as_tag or (name in v.metrics and COMPARE[s](v.metrics[name], n))

    return st.builds(lambda s, n: Case(f"{prefix}{name}{s}{n}", lambda v: holds(v, s, n)), SIGNS, FIGURES)


ALIASED = st.builds(
    lambda s, t: Case(f"alias {s} {quoted(t)}", lambda v: any(text_holds(alias, s, t) for alias in v.aliases)),
    st.sampled_from(["=", "!=", "~"]),
    VALUES,
)
FLAGS = st.builds(
    lambda s, w: Case(f"rslora{s}{w}", lambda v: (v.rslora == (w in ("true", "YES"))) == (s == "=")),
    st.sampled_from(["=", "!="]),
    st.sampled_from(["true", "false", "YES", "0"]),
)
LEAVES = st.one_of(
    *map(numeric, NUMBERS), *map(textual, TEXTS), tagged("task", ""), tagged("task", "tag."), measured("acc", ""),
    measured("acc", "metric."), measured("f1", ""), ALIASED, FLAGS,
)  # fmt: skip


def joined(word: str, sign: Callable[[bool, bool], bool], left: Case, right: Case) -> Case:
    return Case(f"({left.text}) {word} ({right.text})", lambda v: sign(left.holds(v), right.holds(v)))


CASES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda a, b: joined("and", operator.and_, a, b), inner, inner),
        st.builds(lambda a, b: joined("OR", operator.or_, a, b), inner, inner),
        st.builds(lambda a: Case(f"not ({a.text})", lambda v: not a.holds(v)), inner),
    ),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(case=CASES)
def test_an_expression_finds_what_plain_python_finds(bank: Catalog, case: Case) -> None:
    with bank.reading() as tx:
        every = search.versions(tx)
        assert [v.ref for v in search.versions(tx, where=case.text)] == [v.ref for v in every if case.holds(v)]


def refs(bank: Catalog, where: str) -> list[str]:
    with bank.reading() as tx:
        return [version.ref for version in search.versions(tx, where=where)]


def test_and_binds_tighter_than_or_and_not_tightest(bank: Catalog) -> None:
    assert refs(bank, "rank=4 or rank=8 and name=sql") == refs(bank, "rank=4 or (rank=8 and name=sql)")
    assert refs(bank, "rank=4 or rank=8 and name=sql") != refs(bank, "(rank=4 or rank=8) and name=sql")
    assert refs(bank, "not rank=4 and name=sql") == refs(bank, "(not rank=4) and name=sql")
    assert refs(bank, "not not rank==4") == refs(bank, "rank = 4")


def test_the_example_of_the_manual(bank: Catalog) -> None:
    assert refs(bank, "rank=16 and base~llama and acc>0.1") == ["a_b@1", "sql@3"]


def test_a_base_model_is_found_by_its_aliases(bank: Catalog) -> None:
    assert refs(bank, "base=local-bert") == refs(bank, "base=org/bert") != []
    assert refs(bank, "base!=local-bert") == refs(bank, "base=org/Llama-3")


@pytest.mark.parametrize(("text", "count"), [("900B", 9), ("0.9kB", 9), ("1kb", 10), ("1KiB", 11), ("1M", 12), ("2gib", 12)])
def test_sizes_have_units(bank: Catalog, text: str, count: int) -> None:
    assert len(refs(bank, f"bytes<={text}")) == count


def test_times_mean_their_whole_period(bank: Catalog) -> None:
    with bank.reading() as tx:
        created = search.versions(tx, names=["sql"])[0].created
    for length in (4, 7, 10, 13, 16, 19, len(created)):
        period = created[:length]
        assert "sql@1" in refs(bank, f"created={period}")
        assert "sql@1" in refs(bank, f"created>={period} and created<={period}")
        assert "sql@1" not in refs(bank, f"created>{period} or created<{period} or created!={period}")
    assert len(refs(bank, "created>=2020 and created<2999-01")) == 12
    assert refs(bank, "created<2020-01-31T10:00") == []


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("", 1, "expected a name"),
        ("rank", 5, "an operator"),
        ("rank =", 7, "a value after '='"),
        ("rank = and", 8, "a value after '='"),
        ("= 4", 1, "expected a name"),
        ("rank=4 rank=8", 8, "expected 'and', 'or' or the end, got 'rank'"),
        ("rank=4 and", 11, "expected a name"),
        ("(rank=4", 8, "expected ')'"),
        ("rank=4)", 7, "got ')'"),
        ("rank=four", 6, "expected a number for 'rank', got 'four'"),
        ("rank=nan", 6, "expected a number"),
        ("rank~4", 1, "is a number"),
        ("rslora=maybe", 1, "rslora=true"),
        ("rslora>true", 1, "rslora=true"),
        ("created>yesterday", 9, "2026-11-23"),
        ("bytes>4XB", 7, "expected a number"),
        ("metric.acc=high", 12, "expected a number"),
        ("name='sql", 6, "closing quote"),
        ("accuracy>0.5", 1, "unknown name 'accuracy'"),
        ("rank=4 and nope=1", 12, "unknown name 'nope'"),
        ("f1=high", 4, "expected a number"),
        ("(" * 60 + "rank=4" + ")" * 60, 52, "nested deeper"),
        ("not " * 60 + "rank=4", 205, "nested deeper"),
        (" and ".join(["rank=4"] * 201), 2201, "more than 200 comparisons"),
    ],
)
def test_errors_point_at_the_column(bank: Catalog, text: str, column: int, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        refs(bank, text)
    first, line, caret = caught.value.message.split("\n")
    assert message in first
    assert f"column {column}:" in first
    assert line == f"  {text}"
    assert caret == " " * (column + 1) + "^"


def test_an_unknown_name_lists_the_known_ones(bank: Catalog) -> None:
    with pytest.raises(UsageError, match=r"fields: name, version, .*tags: acc, task; metrics: acc, f1"):
        refs(bank, "nope=1")


def test_an_endless_expression_is_refused(bank: Catalog) -> None:
    with pytest.raises(UsageError, match="10000"):
        refs(bank, "rank=4 " * 2000)


@settings(max_examples=200, deadline=None)
@given(text=st.text(st.sampled_from("rank=~<>()'\"\\ andort4.\n"), max_size=30))
def test_any_text_is_an_expression_or_a_usage_error(bank: Catalog, text: str) -> None:
    try:
        refs(bank, text)
    except UsageError as error:
        assert "^" in error.message


def test_order_and_limit(bank: Catalog) -> None:
    with bank.reading() as tx:
        every = search.versions(tx)
        assert [v.ref for v in every] == sorted(
            (v.ref for v in every), key=lambda ref: (ref.split("@")[0], int(ref.split("@")[1]))
        )
        assert [v.id for v in search.versions(tx, sort="-id")] == sorted((v.id for v in every), reverse=True)
        assert [v.alpha for v in search.versions(tx, sort="-acc", limit=3)] == [5.5, 5.0, 4.5]
        by_f1 = search.versions(tx, sort="metric.f1")
        assert [v.metrics.get("f1") for v in by_f1[:6]] == sorted(v.metrics["f1"] for v in every if "f1" in v.metrics)
        assert all("f1" not in v.metrics for v in by_f1[6:])
        two = [(-v.rank, v.created) for v in search.versions(tx, sort="-rank,created")]
        assert two == sorted(two)
        assert search.versions(tx, limit=0) == []
        assert {v.name for v in search.versions(tx, names=["sql", "a_b"])} == {"sql", "a_b"}


def test_orders_and_names_that_do_not_exist(bank: Catalog) -> None:
    with bank.reading() as tx:
        with pytest.raises(UsageError, match=r"cannot sort by 'nope'.*acc, f1"):
            search.versions(tx, sort="-nope")
        with pytest.raises(UsageError, match="limit"):
            search.versions(tx, limit=-1)
        with pytest.raises(NotFoundError, match="none"):
            search.versions(tx, names=["none"])
