"""Recipes as YAML: what is written reads back as the same recipe, and what is no recipe is refused by name."""

import pytest

from adapterbank.errors import UsageError
from adapterbank.merge import Recipe
from adapterbank.merge.recipe_text import Named, from_yaml, to_yaml

DIGESTS = ("ab" * 32, "1e" * 32)
FULL = {
    "options": {"density": 0.3}, "rank": {"energy": 0.9}, "absent": "renormalize", "seed": 7, "dtype": "bfloat16",
    "artefacts": ("cd" * 32,), "schedules": ({"modules": "*.query", "values": [0.0, 1.0]},),
}  # fmt: skip


def recipe(**settings):
    return Recipe.of("ties", [(DIGESTS[0], 1.0), (DIGESTS[1], -0.5)], **settings)


def again(text):
    written = from_yaml(text)
    return Recipe.of(written.method, [(part.digest, part.weight) for part in written.inputs], **written.settings)


@pytest.mark.parametrize("settings", [{}, FULL, {"rank": "exact"}, {"rank": 4}, {"options": {"scale": 1e-7}}])
def test_what_is_written_reads_back_as_the_same_recipe(settings):
    made = recipe(**settings)
    assert again(to_yaml(made, {DIGESTS[0]: "no@1"})) == made
    assert again(to_yaml(made, {})).digest == made.digest


def test_what_is_as_by_default_is_left_out_and_references_stand_beside_digests():
    text = to_yaml(recipe(), {DIGESTS[0]: "on@prod"})
    assert "ref: on@prod" in text and "seed" not in text and "rank" not in text and "artefacts" not in text
    assert from_yaml(text).inputs == (Named("on@prod", DIGESTS[0], 1.0), Named(None, DIGESTS[1], -0.5))


def test_a_short_file_is_enough():
    written = from_yaml("method: cat\ninputs: [a@1, {ref: b, weight: 2}]\nprepare: [pico]\n")
    assert written.inputs == (Named("a@1", None, 1.0), Named("b", None, 2.0))
    assert written.settings == {"prepare": (("pico", {}),)}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected keys and values"),
        ("method: [", "cannot be read as YAML"),
        ("method: ties\nmethod: cat\ninputs: [a]", "'method' is given twice"),
        ("method: ties\ninputs: [{ref: a, ref: b}]", "'ref' is given twice"),
        ("method: ties\ninputs: [a]\nrnak: 4", "unknown key 'rnak'"),
        ("inputs: [a]", "method: got None"),
        ("method: ties", "inputs: expected a list"),
        ("method: ties\ninputs: []", "inputs: expected a list"),
        ("method: ties\ninputs: [{weight: 1}]", "expected ref or digest"),
        ("method: ties\ninputs: [{ref: a, weight: much}]", "weight of a: got 'much'"),
        ("method: ties\ninputs: [{ref: 7}]", "ref and digest are texts"),
        ("method: ties\ninputs: [a]\nseed: many", "seed: got 'many'"),
        ("method: ties\ninputs: [a]\nprepare: [{nmae: pico}]", "prepare: got"),
        ("!!python/object/apply:os.system [ls]", "cannot be read as YAML"),
    ],
)
def test_what_is_no_recipe_is_refused_by_name(text, said):
    with pytest.raises(UsageError, match=r"my\.yaml") as caught:
        from_yaml(text, "my.yaml")
    assert said in caught.value.message
