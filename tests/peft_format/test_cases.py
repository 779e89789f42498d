"""The table of cases, its copy in docs/formats.md, and a directory for each row."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from adapterbank.errors import RefusedInputError
from adapterbank.peft_format import header
from adapterbank.peft_format.cases import BY_CODE, CASES, cases_in
from adapterbank.peft_format.check import inspect
from adapterbank.peft_format.config import parse
from adapterbank.peft_format.fields import DEFAULTS
from adapterbank.peft_format.inventory import take
from adapterbank.peft_format.source import open_directory
from tests.peft_format.features import FEATURES
from tests.peft_format.hostile import cases as hostile_cases

DOCUMENT = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")


def put(tmp_path, files):
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    return tmp_path


def look(path):
    with open_directory(path) as source:
        return inspect(source.config, source.weights.read())


def rows(heading):
    section = DOCUMENT.split(f"### {heading}\n")[1].split("\n#")[0]
    return [line for line in section.splitlines() if line.startswith("| `")]


def test_the_document_prints_the_table_of_the_code():
    expected = [f"| `{c.code}` | {c.decision} | {c.what} | {c.then} | {c.obstacle or 'yes'} |" for c in CASES]
    assert rows("The table") == [row if c.decision != "refused" else row.replace("| yes |", "| – |")
                                 for c, row in zip(CASES, expected, strict=True)]  # fmt: skip


def test_every_row_has_a_fixture_and_every_fixture_a_row():
    assert set(FEATURES) == set(BY_CODE)


def test_every_code_of_a_refusal_is_documented():
    cells = re.findall(r"^\| (`[^|]*) \|", DOCUMENT, re.MULTILINE)
    documented = {code for cell in cells for code in re.findall(r"`([a-z_]+)`", cell)}
    source = Path(__file__).parents[2] / "adapterbank" / "peft_format"
    written = {
        code
        for file in source.glob("*.py")
        for code in re.findall(r'(?:Problem|_wrong)\(\s*"([a-z_]+)"', file.read_text("utf-8"))
    }
    assert written | {code for _, code, *_ in hostile_cases()} <= documented


@pytest.mark.parametrize("case", [case for case in CASES if case.decision != "refused"], ids=lambda case: case.code)
def test_handled_and_carried(case, tmp_path):
    inspection = look(put(tmp_path, FEATURES[case.code]()))
    assert case.code in inspection.facts.cases
    assert inspection.facts.basis_ready == (case.obstacle is None)
    assert inspection.facts.basis_reason == case.obstacle
    notes = {problem.code for problem in inspection.problems if problem.severity == "note"}
    assert (case.code in notes) == (case.decision == "carried")


@pytest.mark.parametrize("case", [case for case in CASES if case.decision == "refused"], ids=lambda case: case.code)
def test_refused(case, tmp_path):
    with pytest.raises(RefusedInputError) as refused:
        look(put(tmp_path, FEATURES[case.code]()))
    assert case.code in {problem.code for problem in refused.value.problems}
    if case.code not in ("too_many_dims", "peft_type", "conv_groups", "adapter_name_in_key"):
        assert case.then in str(refused.value), "the refusal says how to convert"


@pytest.mark.parametrize("code", [case.code for case in CASES if case.decision != "refused"])
def test_nothing_is_dropped(code, tmp_path):
    """Every tensor of an accepted file is a factor of some module or carried."""
    files = FEATURES[code]()
    found = header.parse(files["adapter_model.safetensors"])
    inventory, _ = take(parse(files["adapter_config.json"]), found)
    factors = [key for p in inventory.pairs for key in (p.key_A, p.key_B)]
    assert sorted([*factors, *inventory.carried.values()]) == sorted(found.tensors)


def test_the_defaults_are_those_of_peft(tmp_path):
    from peft import LoraConfig

    LoraConfig().save_pretrained(tmp_path)
    config = parse((tmp_path / "adapter_config.json").read_bytes())
    assert config.effective() == {}
    assert cases_in(config.fields) == ()
    unknown = set(config.fields) - set(DEFAULTS)
    assert unknown <= {"auto_mapping", "base_model_name_or_path", "inference_mode", "megatron_core", "peft_version", "revision",
                       "task_type"}  # fmt: skip


def test_a_converted_start_is_plain_lora():
    """PEFT sets init_lora_weights to true when it converts PiSSA and its kin, so only unconverted ones are refused."""
    for start in ("pissa", "olora", "corda", "lora_ga", "loftq"):
        assert [case.code for case in cases_in({"init_lora_weights": start})] == ["raw_start"]
    assert cases_in({"init_lora_weights": True}) == ()
