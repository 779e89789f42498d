"""A real vLLM on the CPU: names that it has never seen are answered by adapters of the bank.

Run by ``make test-vllm``, in an environment of its own: vLLM is large.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.vllm

ADAPTERS = 40
ALIVE = 600.0  # seconds until a server has started


@dataclass(frozen=True)
class Server:
    process: subprocess.Popen[bytes]
    address: str
    log: Path
    cache: Path

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        request = urllib.request.Request(
            self.address + path, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"{}")

    def says(self, model: str) -> list[int]:
        """The tokens that ``model`` says after the prompt, greedily."""
        from tests.vllm_server.llama import PROMPT, TOKENS

        body = {
            "model": model, "prompt": PROMPT, "max_tokens": TOKENS, "temperature": 0.0,
            "ignore_eos": True, "skip_special_tokens": False,
        }  # fmt: skip
        status, answer = self.post("/v1/completions", body)
        assert status == 200, answer
        return [int(word.removeprefix("t")) for word in answer["choices"][0]["text"].split()]


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A model, a bank with its adapters, and what each is to say."""
    from adapterbank import Bank
    from tests.vllm_server.llama import expected, write_adapter, write_model

    root = tmp_path_factory.mktemp("vllm")
    model = write_model(root / "model")
    answers = {}
    with Bank.open(root / "bank", create=True) as bank:
        for number in range(ADAPTERS):
            folder = root / "in" / str(number)
            write_adapter(model, folder, number)
            ref = bank.register(folder, name=f"a{number}", base_model="tiny/llama").ref
            answers[ref] = expected(model, folder)
        bank.alias_base_model("tiny/llama", str(root / "model"))
        bank.set_alias("a0", "prod", 1)
    return {"root": root, "answers": answers}


@pytest.fixture(scope="module")
def server(known: dict[str, Any]) -> Iterator[Server]:
    root: Path = known["root"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_HOST_IP": "127.0.0.1", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
        "VLLM_PLUGINS": "adapterbank", "ADAPTERBANK": str(root / "bank"), "ADAPTERBANK_CACHE": str(root / "cache"),
    }  # fmt: skip
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(root / "model"),
        "--served-model-name", "base", "--host", "127.0.0.1", "--port", str(port), "--enable-lora", "--dtype", "float32",
        "--max-model-len", "256", "--enforce-eager", "--max-loras", "2", "--max-cpu-loras", "2", "--max-lora-rank", "16",
        "--max-num-seqs", "4",
    ]  # fmt: skip
    log = root / "vllm.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
    found = Server(process, f"http://127.0.0.1:{port}", log, root / "cache")
    try:
        _wait(found)
        yield found
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _wait(server: Server) -> None:
    until = time.monotonic() + ALIVE
    while time.monotonic() < until:
        if server.process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(server.address + "/health", timeout=5):
                return
        except OSError:
            time.sleep(1)
    raise AssertionError(f"vLLM did not start:\n{server.log.read_text(errors='replace')[-5000:]}")


def test_names_it_has_never_seen_are_answered_by_the_bank_twice_round(server, known):
    """With two adapters in memory every one is evicted and read from its directory again."""
    answers = known["answers"]
    assert len({tuple(answer) for answer in answers.values()}) > ADAPTERS // 2, "the adapters hardly differ"
    for _ in range(2):
        assert {ref: server.says(ref) for ref in answers} == answers


def test_what_is_no_immutable_reference_is_not_found_and_the_log_says_what_to_ask_for(server):
    for model in ("a0", "a0@prod", "a0@7", "nobody@1", "../../etc"):
        status, _ = server.post("/v1/completions", {"model": model, "prompt": [3], "max_tokens": 1})
        assert status == 404, model
    log = server.log.read_text(errors="replace")
    assert "a0@prod: names and aliases move: ask for a0@1" in log


def test_every_process_of_the_server_locks_its_lease_and_counts_can_be_read(server):
    """The one that answers requests, the engine's and the worker's: any of them may read a directory."""
    server.says("a1@1")
    (lease,) = (server.cache / "leases").iterdir()
    locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    holders = {fields[4] for fields in locks if fields[1] == "FLOCK" and fields[5].endswith(f":{lease.stat().st_ino}")}
    assert len(holders) >= 3
    (counts,) = (server.cache / "metrics").iterdir()
    assert re.search(r'requests_total\{outcome="resolved"\} [1-9]', counts.read_text())


def test_directories_stay_while_the_server_lives_and_go_afterwards(server, known):
    from adapterbank.integrations.directories import Directories

    server.says("a1@1")
    before = len(list((server.cache / "adapters").iterdir()))
    assert before >= 1 and Directories(server.cache, 1 << 30).swept == 0
    assert len(list((server.cache / "adapters").iterdir())) == before
    server.process.send_signal(signal.SIGTERM)
    server.process.wait(60)
    until = time.monotonic() + 60  # workers end after the process that answers requests
    while Directories(server.cache, 1 << 30).bytes and time.monotonic() < until:
        time.sleep(0.5)
    assert not list((server.cache / "adapters").iterdir())


def test_the_page_says_how(tmp_path, monkeypatch):
    """The blocks of docs/serving.md that start a server and ask it, as they stand there, on a port of our own."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
    part = page.split("## With vLLM")[1].split("\n## ")[0]
    serve, ask = re.findall(r"^```sh\n(.*?)^```$", part, re.MULTILINE | re.DOTALL)
    examples = Path(__file__).resolve().parents[2] / "examples"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    before = f"""
set -e
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 VLLM_NO_USAGE_STATS=1 VLLM_CPU_KVCACHE_SPACE=1 VLLM_HOST_IP=127.0.0.1
export ADAPTERBANK=$PWD/bank-serving ADAPTERBANK_CACHE=$PWD/cache PATH={Path(sys.executable).parent}:$PATH
ln -s {examples} examples
adapterbank init
{_steps(page)}
vllm() {{ shift; python -m vllm.entrypoints.openai.api_server --model "$@" --port {port} --dtype float32 --enforce-eager \\
  --max-model-len 256 --host 127.0.0.1; }}
"""
    script = before + serve
    process = subprocess.Popen(["bash", "-c", script], cwd=tmp_path, start_new_session=True)
    try:
        _wait(Server(process, f"http://127.0.0.1:{port}", Path(os.devnull), tmp_path / "cache"))
        answer = subprocess.run(
            ["bash", "-c", ask.replace(":8000", f":{port}")], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert json.loads(answer.stdout)["model"] == "sql@1" and json.loads(answer.stdout)["choices"][0]["text"].strip()
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def _steps(page: str) -> str:
    """The console lines of the part about vLLM."""
    part = page.split("## With vLLM")[1].split("\n## ")[0]
    blocks = re.findall(r"^```console\n(.*?)^```$", part, re.MULTILINE | re.DOTALL)
    return "\n".join(line.removeprefix("$ ") for block in blocks for line in block.splitlines())
