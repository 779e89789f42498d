"""The record of a merge: canonical, complete, readable again."""

import json

import pytest

from adapterbank.errors import IntegrityError, UsageError
from adapterbank.merge import Recipe
from adapterbank.merge.recipe import environment

GOLDEN = (
    '{"absent":"zero","artefacts":[],"continues":null,"dtype":"float32",'
    '"inputs":[{"digest":"bb","weight":1.0},{"digest":"aa","weight":-0.5}],"method":"ties",'
    '"options":{"density":0.3,"normalize":"count","scale":1.0,"scope":"module","space":"full"},"prepare":[],"rank":8,'
    '"schedules":[],"seed":5}'
)


def recipe(**settings):
    return Recipe.of("ties", [("bb", 1), ("aa", -0.5)], **{"options": {"density": "0.3"}, "rank": 8, "seed": 5, **settings})


def test_the_json_is_canonical_and_holds_every_option():
    assert recipe().to_json() == GOLDEN
    assert recipe().digest == "295f87dcdfff4c6a0868f7c9db73e5b680fa5a083c4da43f744e4974f05390a7"


def test_it_reads_back_equal():
    assert Recipe.from_json(GOLDEN) == recipe()
    assert Recipe.from_json(recipe(rank=None).to_json()).rank is None


def test_the_order_of_the_options_does_not_matter_and_that_of_the_inputs_is_kept():
    one = Recipe("ties", recipe().inputs, {"scale": 1.0, "density": 0.3})
    two = Recipe("ties", recipe().inputs, {"density": 0.3, "scale": 1.0})
    assert one.to_json() == two.to_json()
    assert [ingredient.digest for ingredient in Recipe.from_json(GOLDEN).inputs] == ["bb", "aa"]


@pytest.mark.parametrize("text", ["", "[]", "{}", GOLDEN.replace('"seed"', '"sed"'), GOLDEN.replace("digest", "digset")])
def test_a_damaged_record_is_an_integrity_error(text):
    with pytest.raises(IntegrityError, match="recipe cannot be read"):
        Recipe.from_json(text)


@pytest.mark.parametrize("rank", [None, 4, "exact", {"energy": 0.9}, {"error": 0.0}])
def test_each_way_to_say_the_rank_reads_back(rank):
    assert Recipe.from_json(recipe(rank=rank).to_json()) == recipe(rank=rank)


def test_other_inputs_have_their_own_artefacts():
    other = recipe(artefacts=("ab" * 32,)).with_inputs(recipe().inputs[:1])
    assert other == Recipe.of("ties", [("bb", 1)], options={"density": 0.3}, rank=8, seed=5)


WRONG = [
    {"options": {"desnity": 1}}, {"dtype": "int8"}, {"absent": "maybe"}, {"prepare": [("nobody", {})]},
    *({"rank": rank} for rank in (0, -1, True, 1.5, "all", {"energy": 0.0}, {"error": 1.0}, {"energy": 0.5, "error": 0.1}, {})),
]  # fmt: skip


@pytest.mark.parametrize("settings", WRONG)
def test_what_cannot_be_merged_is_no_recipe(settings):
    with pytest.raises(UsageError):
        recipe(**settings)


def test_the_environment_is_plain_text_and_stable():
    assert environment() == environment()
    assert {"adapterbank", "torch", "numpy", "blas", "machine", "instructions"} <= environment().keys()
    assert json.loads(json.dumps(environment())) == environment()
