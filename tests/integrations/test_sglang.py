"""SGLang's two routes, against a server of our own that answers as it does."""

import pytest

from adapterbank.errors import ServerError, UsageError
from adapterbank.integrations.sglang import load_adapter, unload_adapter


def test_it_is_told_name_and_absolute_path(sglang, tmp_path, monkeypatch):
    address, seen, _ = sglang
    monkeypatch.chdir(tmp_path)
    assert load_adapter(address, "sql@1", "out/sql@1", pinned=True)["success"]
    unload_adapter(address, "sql@1")
    assert seen == [
        ("/load_lora_adapter", {"lora_name": "sql@1", "lora_path": str(tmp_path / "out/sql@1"), "pinned": True}),
        ("/unload_lora_adapter", {"lora_name": "sql@1"}),
    ]


def test_what_it_refuses_is_an_error_with_its_words(sglang):
    address, _, says = sglang
    for answer in ((400, {"error_message": "rank too large"}), (200, {"success": False, "error_message": "rank too large"})):
        says.append(answer)
        with pytest.raises(ServerError, match="rank too large"):
            load_adapter(address, "sql@1", "/x")


def test_no_server_and_no_address():
    with pytest.raises(ServerError, match="cannot be reached"):
        load_adapter("http://127.0.0.1:9", "sql@1", "/x")
    with pytest.raises(UsageError, match="file:///etc/passwd"):
        load_adapter("file:///etc/passwd", "sql@1", "/x")
