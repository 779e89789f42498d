"""The methods page is the one that the table gives."""

from pathlib import Path

from adapterbank.merge import METHODS
from adapterbank.merge.document import document

PAGE = Path(__file__).parents[2] / "docs" / "methods.md"


def test_it_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == document(), "run: python -m adapterbank.merge.document > docs/methods.md"


def test_every_method_and_option_is_in_it():
    text = document()
    for method in METHODS.values():
        section = text.split(f"\n## {method.name}\n")[1].split("\n## ")[0]
        assert all(f"| `{option.name}` |" in section for option in method.options)
