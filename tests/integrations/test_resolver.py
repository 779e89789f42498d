"""From a name in a request to a directory: only immutable references of the right base model, and never an exception."""

import logging
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
    for text in ("", "GiB", "1GB", "-"):
        with pytest.raises(UsageError):
            size(text, "x")


def test_outcomes_are_listed(llamas, settings):
    resolver = Resolver("vllm", settings)
    resolver.resolve(BASE, "sql@1")
    resolver.resolve(BASE, "?")
    assert set(resolver.outcomes) <= set(OUTCOMES)
