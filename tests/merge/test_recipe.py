"""The record of a merge: canonical, complete, readable again."""

import json

import pytest

from adapterbank.errors import IntegrityError, UsageError
from adapterbank.merge import Recipe
from adapterbank.merge.recipe import environment

GOLDEN = (
    '{"dtype":"float32","inputs":[{"digest":"bb","weight":1.0},{"digest":"aa","weight":-0.5}],"method":"ties",'
    '"options":{"density":0.3,"normalize":"count","scale":1.0,"scope":"module"},"rank":8,"seed":5}'
)


def recipe(**settings):
    return Recipe.of("ties", [("bb", 1), ("aa", -0.5)], **{"options": {"density": "0.3"}, "rank": 8, "seed": 5, **settings})


def test_the_json_is_canonical_and_holds_every_option():
    assert recipe().to_json() == GOLDEN
    assert recipe().digest == "ec2e6d8aca88c8c5b9d93de87b6f1054916871d0269e834a687d7df3ffd01c86"


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


@pytest.mark.parametrize("settings", [{"options": {"desnity": 1}}, {"dtype": "int8"}])
def test_what_cannot_be_merged_is_no_recipe(settings):
    with pytest.raises(UsageError):
        recipe(**settings)


def test_the_environment_is_plain_text_and_stable():
    assert environment() == environment()
    assert {"adapterbank", "torch", "numpy", "blas", "machine", "instructions"} <= environment().keys()
    assert json.loads(json.dumps(environment())) == environment()
