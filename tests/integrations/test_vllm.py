"""The contract with vLLM, against a stand-in with its names; ``tests/vllm_server`` runs the real one."""

import asyncio
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

import pytest

from adapterbank.integrations import vllm
from adapterbank.integrations.leases import VARIABLE
from tests.bank import dense
from tests.integrations.test_materialize import LLAMA


@dataclass
class LoRARequest:
    lora_name: str
    lora_int_id: int
    lora_path: str = ""


@pytest.fixture(autouse=True)
def a_server_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "1-" + "0" * 16)
    monkeypatch.setenv("ADAPTERBANK", str(tmp_path / "nowhere"))
    monkeypatch.setenv("ADAPTERBANK_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def registry(monkeypatch):
    """What vLLM has at ``vllm.lora.resolver`` and ``vllm.lora.request``; the registry's resolvers by name."""
    found = {}

    class LoRAResolverRegistry:
        @staticmethod
        def get_supported_resolvers():
            return list(found)

        @staticmethod
        def register_resolver(name, resolver):
            assert name not in found, "registered twice"
            found[name] = resolver

    parts = {
        "vllm": {}, "vllm.lora": {}, "vllm.lora.request": {"LoRARequest": LoRARequest},
        "vllm.lora.resolver": {"LoRAResolver": object, "LoRAResolverRegistry": LoRAResolverRegistry},
    }  # fmt: skip
    for name, names in parts.items():
        module = ModuleType(name)
        vars(module).update(names)
        monkeypatch.setitem(sys.modules, name, module)
    return found


@pytest.fixture
def served(bank, make, place, tmp_path, monkeypatch):
    folder = make("sql", modules=LLAMA, base_model="meta/llama")
    bank.register(folder, name="sql")
    monkeypatch.setenv("ADAPTERBANK", str(place))
    return folder


def test_the_plugin_is_found_and_registers_once_however_often_it_is_called(registry):
    (point,) = (point for point in entry_points(group="vllm.general_plugins") if point.name == "adapterbank")
    for _ in range(3):
        point.load()()
    assert list(registry) == ["adapterbank"]


def test_registering_opens_nothing_and_imports_no_torch(tmp_path):
    code = """
import sys, types
for name in ("vllm", "vllm.lora", "vllm.lora.request", "vllm.lora.resolver"):
    sys.modules[name] = types.ModuleType(name)
class Registry:
    get_supported_resolvers = staticmethod(lambda: [])
    register_resolver = staticmethod(lambda name, resolver: None)
sys.modules["vllm.lora.request"].LoRARequest = object
sys.modules["vllm.lora.resolver"].LoRAResolver = object
sys.modules["vllm.lora.resolver"].LoRAResolverRegistry = Registry
from adapterbank.integrations.vllm import register
register()
print(sorted({"torch", "sqlalchemy", "peft"} & sys.modules.keys()))
"""
    environment = {
        "ADAPTERBANK": str(tmp_path / "nowhere"), "ADAPTERBANK_CACHE": str(tmp_path / "cache"), "PATH": "",
        "PYTHONPATH": ":".join(sys.path),
    }  # fmt: skip
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert ran.stdout.strip() == "[]"


def test_a_name_it_has_never_seen_becomes_a_request(registry, served):
    vllm.register()
    request = asyncio.run(registry["adapterbank"].resolve_lora("meta/llama", "sql@1"))
    assert (request.lora_name, request.lora_int_id) == ("sql@1", 1)
    assert dense.distance(dense.deltas(_path(request)), dense.deltas(served)) == 0.0
    for base, name in (("meta/llama", "sql"), ("meta/llama", "other"), ("other/base", "sql@1"), ("meta/llama", "a/../b")):
        assert asyncio.run(registry["adapterbank"].resolve_lora(base, name)) is None


def test_the_event_loop_is_not_held_up_while_a_directory_is_written(registry, served, monkeypatch):
    import threading

    vllm.register()
    resolver, threads = registry["adapterbank"], []
    monkeypatch.setattr(resolver.resolver, "resolve", lambda *_: threads.append(threading.current_thread()))
    asyncio.run(resolver.resolve_lora("meta/llama", "sql@1"))
    assert threads and threads[0] is not threading.main_thread()


def test_offline_a_request_is_made_by_hand_and_errors_are_raised(registry, served):
    from adapterbank.errors import AdapterBankError

    request = vllm.lora_request("sql@1", 7, base_model="meta/llama")
    assert (request.lora_name, request.lora_int_id) == ("sql@1", 7) and _path(request).is_dir()
    with pytest.raises(AdapterBankError, match="names and aliases move"):
        vllm.lora_request("sql", 8)


def test_offline_many_requests_share_one_bank_and_one_lease(registry, served, tmp_path):
    vllm.lora_request("sql@1", 1)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(20):
        vllm.lora_request("sql@1", number + 1)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    (lease,) = (tmp_path / "cache" / "leases").iterdir()
    assert len(lease.read_text().splitlines()) == 1


@pytest.mark.parametrize("bank", [None, "", " "])
def test_without_a_bank_the_plugin_does_nothing(registry, monkeypatch, tmp_path, caplog, bank):
    monkeypatch.delenv("ADAPTERBANK")
    if bank is not None:
        monkeypatch.setenv("ADAPTERBANK", bank)
    vllm.register()
    assert not registry and not (tmp_path / "cache").exists() and not caplog.records
    monkeypatch.setenv("VLLM_PLUGINS", "other,adapterbank")
    vllm.register()
    assert not registry and "ADAPTERBANK does not name a bank" in caplog.text


@pytest.mark.parametrize("gone", ["vllm.lora.resolver", "vllm.lora.request"])
def test_a_vllm_without_resolvers_starts_all_the_same(registry, monkeypatch, caplog, gone):
    monkeypatch.setitem(sys.modules, gone, None)  # as if it were not there
    vllm.register()
    assert not registry and "ModuleNotFoundError" in caplog.text


def test_settings_that_make_no_sense_stop_no_server(registry, monkeypatch, caplog):
    monkeypatch.setenv("ADAPTERBANK_CACHE_BYTES", "much")
    vllm.register()
    assert list(registry) == ["adapterbank"] and "ADAPTERBANK_CACHE_BYTES is 'much'" in caplog.text


def test_a_request_that_this_vllm_makes_otherwise_is_none_and_counted(registry, served, monkeypatch, caplog):
    def refusing(**fields):
        raise TypeError("lora_path is called otherwise")

    monkeypatch.setattr(sys.modules["vllm.lora.request"], "LoRARequest", refusing)
    vllm.register()
    resolver = registry["adapterbank"]
    assert asyncio.run(resolver.resolve_lora("meta/llama", "sql@1")) is None
    assert resolver.resolver.outcomes["failed"] == 1 and "TypeError: lora_path is called otherwise" in caplog.text


def _path(request):
    return Path(request.lora_path)
