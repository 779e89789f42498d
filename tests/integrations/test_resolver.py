"""From a name in a request to a directory: only immutable references of the right base model, and never an exception."""

import logging
import shutil
from dataclasses import replace

import pytest

from adapterbank.errors import UsageError
from adapterbank.integrations.resolver import OUTCOMES, Resolver, Settings
from adapterbank.units import size
from adapterbank.ways.materialize import Order
from tests.bank import dense
from tests.integrations.test_materialize import LLAMA

BASE = "meta/llama"


@pytest.fixture
def llamas(bank, make):
    """Directories of the adapters sql@1, sql@2 (alias prod) and big@1."""
    found = {}
    for name, seed, rank in (("sql", 1, 4), ("sql", 2, 4), ("big", 3, 9)):
        folder = make(f"{name}{seed}", modules=LLAMA, seed=seed, rank=rank, base_model=BASE)
        found[bank.register(folder, name=name).ref] = folder
    bank.set_alias("sql", "prod", 2)
    return found


@pytest.fixture
def settings(place, tmp_path):
    return Settings(str(place), tmp_path / "cache", 1 << 30, "vllm")


@pytest.fixture
def told(caplog):
    caplog.set_level(logging.INFO, logger="adapterbank.resolver")
    return caplog


def test_an_immutable_reference_is_the_adapter(bank, llamas, settings):
    resolver = Resolver("vllm", settings)
    digest = f"sha256:{bank.find('sql@1').files}"
    for name in ("sql@1", "big@1", digest):
        path = resolver.resolve(BASE, name)
        wanted = llamas["sql@1" if name == digest else name]
        assert dense.distance(dense.deltas(path), dense.deltas(wanted)) < 1e-7
    assert resolver.resolve(BASE, "sql@1") == resolver.resolve(BASE, digest) != resolver.resolve(BASE, "sql@2")
    assert resolver.outcomes == {"resolved": 6}


@pytest.mark.parametrize(
    ("name", "base", "outcome", "says"),
    [
        ("sql", BASE, "mutable", "ask for sql@2"),
        ("sql@prod", BASE, "mutable", "ask for sql@2"),
        ("sql@9", BASE, "unknown", "sql@9"),
        ("gpt-4", BASE, "unknown", "gpt-4"),
        ("../../etc/passwd", BASE, "not_a_reference", "not allowed"),
        ("a/b:c@v1", BASE, "not_a_reference", "not allowed"),
        ("", BASE, "not_a_reference", "not allowed"),
        ("sql@1", "other/model", "other_base_model", "adapterbank model alias meta/llama other/model"),
    ],
)
def test_everything_else_is_none_with_a_reason(llamas, settings, told, name, base, outcome, says):
    resolver = Resolver("vllm", settings)
    assert resolver.resolve(base, name) is None
    assert resolver.outcomes == {outcome: 1} and says in told.text
    assert not list((settings.cache / "adapters").iterdir() if settings.cache.exists() else [])


def test_aliases_are_taken_on_request(llamas, settings):
    resolver = Resolver("vllm", replace(settings, aliases=True))
    assert resolver.resolve(BASE, "sql@prod") == resolver.resolve(BASE, "sql") == resolver.resolve(BASE, "sql@2")


def test_a_base_model_goes_by_its_aliases(bank, llamas, settings, tmp_path):
    resolver = Resolver("vllm", settings)
    served = tmp_path / "models" / "llama"
    assert resolver.resolve(str(served), "sql@1") is None
    bank.alias_base_model(BASE, str(served))
    assert resolver.resolve(str(served), "sql@1") == resolver.resolve(f"{served}/", "sql@1") is not None


def test_ranks_above_the_servers_and_kinds_it_lacks_are_declined(bank, llamas, settings, make, told):
    resolver = Resolver("vllm", replace(settings, rank=8))
    assert resolver.resolve(BASE, "big@1") is None and "rank 9 is above ADAPTERBANK_MAX_LORA_RANK=8" in told.text
    bank.register(make("dora", modules=LLAMA, base_model=BASE, use_dora=False, modules_to_save=None), name="plain")
    assert resolver.resolve(BASE, "plain@1") is not None
    assert resolver.outcomes == {"unservable": 1, "resolved": 1}


def test_at_the_cap_it_declines_says_why_and_counts(bank, llamas, settings, told):
    largest = bank.plan_directory("sql@1", Order(server="vllm")).largest
    resolver = Resolver("vllm", replace(settings, limit=largest))
    assert resolver.resolve(BASE, "sql@1") is not None
    assert resolver.resolve(BASE, "sql@2") is None
    assert resolver.outcomes == {"resolved": 1, "full": 1} and f"over the cap of {largest}" in told.text
    assert resolver.resolve(BASE, "sql@2") is None and "declined at the cap since the start: 2" in told.text


def test_counts_can_be_read_while_the_server_runs(llamas, settings):
    resolver = Resolver("vllm", settings)
    for name in ("sql@1", "sql@1", "sql", "nobody@1"):
        resolver.resolve(BASE, name)
    (counts,) = (settings.cache / "metrics").iterdir()
    told = dict(line.rsplit(" ", 1) for line in counts.read_text().splitlines() if not line.startswith("#"))
    assert set(told) == {f'adapterbank_resolver_requests_total{{outcome="{outcome}"}}' for outcome in OUTCOMES}
    assert {name.split('"')[1]: int(count) for name, count in told.items() if count != "0"} == {
        "resolved": 2, "mutable": 1, "unknown": 1,
    }  # fmt: skip


def test_the_beginning_of_a_digest_is_not_immutable(bank, llamas, settings, told):
    """Another adapter whose digest begins alike would make it ambiguous, or take its place once this one is removed."""
    whole = bank.find("sql@1").files
    resolver = Resolver("vllm", settings)
    for digits in (8, 12, 63):
        assert resolver.resolve(BASE, f"sha256:{whole[:digits]}") is None
    assert resolver.outcomes == {"mutable": 3} and f"ask for sql@1 or sha256:{whole}" in told.text
    assert resolver.resolve(BASE, f"sha256:{whole}") is not None
    assert Resolver("vllm", replace(settings, aliases=True)).resolve(BASE, f"sha256:{whole[:8]}") is not None


@pytest.mark.parametrize("name", ["x@1\n2026-11-23 INFO adapterbank: root@1 is served", "a" * 5000, "\x1b[2Jx", "x\u2028y"])
def test_what_a_client_sends_is_one_short_line_of_the_log(llamas, settings, told, name):
    assert Resolver("vllm", settings).resolve(BASE, name) is None
    (record,) = told.records
    assert record.getMessage().isprintable() and len(record.getMessage()) < 1000
    assert Resolver("vllm", settings).resolve(name, "sql@1") is None
    assert told.records[-1].getMessage().isprintable() and len(told.records[-1].getMessage()) < 1000


def test_a_name_that_is_no_reference_is_quoted(llamas, settings, told):
    Resolver("vllm", settings).resolve(BASE, "sql@1 is served from /tmp")
    assert "adapterbank: 'sql@1 is served from /tmp': " in told.text


def test_a_damaged_directory_is_written_anew_beside_the_old_one(llamas, settings, told):
    resolver = Resolver("vllm", settings)
    first = resolver.resolve(BASE, "sql@1")
    weights = first / "adapter_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    second = resolver.resolve(BASE, "sql@1")
    assert first != second and first.is_dir() and "is damaged, another one is written beside it" in told.text
    assert dense.distance(dense.deltas(second), dense.deltas(llamas["sql@1"])) < 1e-7
    assert resolver.resolve(BASE, "sql@1") == second
    (second / "adapter_config.json").unlink()
    assert resolver.resolve(BASE, "sql@1") not in (None, first, second)


def test_a_cache_that_somebody_deleted_is_made_anew(llamas, settings):
    resolver = Resolver("vllm", settings)
    first = resolver.resolve(BASE, "sql@1")
    shutil.rmtree(settings.cache)
    assert resolver.resolve(BASE, "sql@1") == first and first.is_dir()
    assert Resolver("vllm", settings).resolve(BASE, "big@1") is not None and first.is_dir(), "the lease was noted anew"


def test_a_cache_that_cannot_be_written_says_which_variable_to_set(llamas, settings, told):
    settings.cache.write_text("a file")
    assert Resolver("vllm", settings).resolve(BASE, "sql@1") is None
    assert "set ADAPTERBANK_CACHE to a folder that can be written" in told.text


def test_no_exception_gets_out(settings, tmp_path, told, monkeypatch):
    assert Resolver("vllm", replace(settings, bank=str(tmp_path / "nowhere"))).resolve(BASE, "sql@1") is None
    monkeypatch.setenv("ADAPTERBANK_CACHE_BYTES", "much")
    assert Resolver("vllm").resolve(BASE, "sql@1") is None and "ADAPTERBANK_CACHE_BYTES is 'much'" in told.text
    resolver = Resolver("vllm", settings)
    monkeypatch.setattr(resolver, "_opened", lambda: 1 / 0)
    assert resolver.resolve(BASE, "sql@1") is None and resolver.outcomes == {"failed": 1}


def test_settings_come_from_the_environment(tmp_path):
    environment = {
        "ADAPTERBANK": "/b", "ADAPTERBANK_CACHE": str(tmp_path), "ADAPTERBANK_CACHE_BYTES": "1.5MiB",
        "ADAPTERBANK_MAX_LORA_RANK": "32", "ADAPTERBANK_FORM": "bounded", "ADAPTERBANK_ALLOW_ALIASES": "1",
    }  # fmt: skip
    assert Settings.from_environment("vllm", environment) == Settings("/b", tmp_path, 3 << 19, "vllm", 32, "bounded", True)
    assert Settings.from_environment("vllm", {}).limit == 16 << 30
    with pytest.raises(UsageError, match="ADAPTERBANK_MAX_LORA_RANK is 'big'"):
        Settings.from_environment("vllm", {"ADAPTERBANK_MAX_LORA_RANK": "big"})
    assert [size(text, "x") for text in ("7", "2KiB", "1TiB")] == [7, 2048, 1 << 40]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("8G", 8 * 10**9),
        ("1GB", 10**9),
        ("1.5 gib", 3 << 29),
        ("10MB", 10**7),
        ("0", 0),
        (" 2K ", 2000),
        ("123456789012345677", 123456789012345677),
    ],
)
def test_sizes_as_people_write_them(text, count):
    assert size(text, "x") == count


@pytest.mark.parametrize("wrong", ["", "GiB", "-", "-1", "inf", "nan", "1e400", "9" * 400, "1XB", "٣", -1, 1.5, None, True])
def test_a_size_that_is_none_is_told_with_what_is_expected(wrong):
    with pytest.raises(UsageError, match=r"x is .*: expected bytes, such as 8GiB, 512MiB, 10GB"):
        size(wrong, "x")


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("CACHE_BYTES", "inf", "expected bytes"),
        ("CACHE_BYTES", "-5GiB", "expected bytes"),
        ("MAX_LORA_RANK", "0", "expected a number"),
        ("MAX_LORA_RANK", "²", "expected a number"),
        ("FORM", "bonded", "expected one of auto, exact, bounded"),
        ("ALLOW_ALIASES", "maybe", "expected one of 1, true"),
    ],
)
def test_a_variable_that_makes_no_sense_is_named(variable, value, says):
    with pytest.raises(UsageError, match=f"ADAPTERBANK_{variable} is .*{says}"):
        Settings.from_environment("vllm", {f"ADAPTERBANK_{variable}": value})


@pytest.mark.parametrize(
    ("value", "allowed"), [("true", True), ("YES", True), ("on", True), ("0", False), ("false", False), ("", False)]
)
def test_aliases_are_switched_on_by_any_word_for_yes(value, allowed):
    assert Settings.from_environment("vllm", {"ADAPTERBANK_ALLOW_ALIASES": value}).aliases is allowed


def test_outcomes_are_listed(llamas, settings):
    resolver = Resolver("vllm", settings)
    resolver.resolve(BASE, "sql@1")
    resolver.resolve(BASE, "?")
    assert set(resolver.outcomes) <= set(OUTCOMES)
