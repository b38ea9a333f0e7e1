# SPDX-License-Identifier: Apache-2.0
"""Settings and requests: what is refused, and what JSON may say."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
import sys
from types import ModuleType
from typing import Any

import pytest

from alignjax import sampling


def as_users_have_it() -> ModuleType:
    """The module without the checks of types that conftest.py adds: those would refuse
    the wrong types before it does."""
    spec = importlib.util.find_spec("alignjax.sampling.requests")
    assert spec is not None and spec.origin is not None
    spec = importlib.util.spec_from_file_location("unchecked_requests", spec.origin)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look up annotations there
    spec.loader.exec_module(module)
    return module


requests = as_users_have_it()
Request, Settings, settings = requests.Request, requests.Settings, requests.settings
NUMBERS = ["temperature", "top_p", "min_p", "repetition_penalty", "presence_penalty"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"temperature": -0.1}, r"temperature must be 0 \(greedy\) or .* got -0.1"),
        ({"temperature": 1e-39}, "temperature must be 0 .* at least 1e-30, got 1e-39"),
        ({"top_k": -1}, r"top_k must be 0 \(all\) or above, got -1"),
        ({"top_k": 1 << 31}, r"top_k must be below 2\^31, got 2147483648"),
        ({"top_k": 2.0}, "top_k must be an int, got 2.0"),
        ({"top_k": "2"}, "top_k must be an int, got '2'"),
        ({"top_k": True}, "top_k must be an int, got True"),
        ({"top_p": 0.0}, r"top_p must be in \(0, 1\], got 0.0"),
        ({"top_p": 1.5}, "top_p .* got 1.5"),
        ({"max_new_tokens": 0}, "max_new_tokens must be > 0, got 0"),
        ({"max_new_tokens": None}, "max_new_tokens must be an int, got None"),
        ({"max_new_tokens": False}, "max_new_tokens must be an int, got False"),
        ({"stop": ("a", "")}, "stop: an empty text"),
        ({"stop": "a"}, "stop must be a tuple of texts, got 'a'"),
        ({"stop": ["a"]}, r"stop must be a tuple of texts, got \['a'\]"),
        ({"stop": (1,)}, "stop: each must be a text, got 1"),
        ({"stop": ("a\ufffd",)}, "stop: .* half a character"),
        ({"stop": ("\ud83d",)}, "stop: .* half a character"),
        ({"min_p": 1.0}, r"min_p must be in \[0, 1\), got 1.0"),
        ({"min_p": -0.5}, "min_p .* got -0.5"),
        ({"repetition_penalty": 0.0}, "repetition_penalty must be > 0 .* got 0.0"),
        ({"repetition_penalty": -1.0}, "repetition_penalty .* got -1.0"),
        ({"logit_bias": {7: 1.0}}, r"logit_bias must be a tuple .* got \{7: 1.0\}"),
        ({"logit_bias": ([7, 1.0],)}, r"expected \(id, number\), got \[7, 1.0\]"),
        ({"logit_bias": ((7,),)}, r"logit_bias: expected \(id, number\), got \(7,\)"),
        ({"logit_bias": ((7, "1"),)}, "bias of id 7 must be a number, got '1'"),
        ({"logit_bias": ((7, True),)}, "bias of id 7 must be a number, got True"),
        ({"logit_bias": ((7, -math.inf),)}, "bias of id 7 must be finite .* got -inf"),
        ({"logit_bias": ((7, math.nan),)}, "bias of id 7 must be finite .* got nan"),
        ({"logit_bias": ((-7, 1.0),)}, "logit_bias: an id must be 0 or above, got -7"),
        ({"logit_bias": (("7", 1.0),)}, "logit_bias: an id must be an int, got '7'"),
        ({"logit_bias": ((7, 1.0), (7, 2.0))}, "logit_bias: id 7 is there twice"),
        ({"banned": [7]}, r"banned must be a tuple of token ids, got \[7\]"),
        ({"banned": 7}, "banned must be a tuple of token ids, got 7"),
        ({"banned": (True,)}, "banned: an id must be an int, got True"),
        ({"banned": (1 << 31,)}, r"banned: an id must be below 2\^31"),
        ({"banned": (3, 7, 3)}, "banned: id 3 is there twice; name it once"),
        ({"stop_ids": (-1,)}, "stop_ids: an id must be 0 or above, got -1"),
        ({"stop_ids": (2.0,)}, "stop_ids: an id must be an int, got 2.0"),
        ({"stop_ids": (3, 3)}, "stop_ids: id 3 is there twice"),
        (
            {"logit_bias": ((9, 1.0), (7, 1.0)), "banned": (7, 9)},
            "id 7 is in logit_bias and in banned",
        ),
    ],
)
def test_settings_out_of_range_are_refused(changed: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        Settings(**changed)


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e31, 10**400])
def test_numbers_must_be_finite(name: str, value: float):
    with pytest.raises(ValueError, match=f"{name} must be finite"):
        Settings(**{name: value})


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", ["0.5", True, None, [0.5]])
def test_what_is_no_number_is_not_taken_for_one(name: str, value: Any):
    with pytest.raises(ValueError, match=f"{name} must be a number, got"):
        Settings(**{name: value})


def test_an_error_quotes_no_more_than_sixty_characters_of_a_value():
    with pytest.raises(ValueError, match="top_k") as caught:
        Settings(top_k="x" * 10_000)
    assert len(str(caught.value)) < 100


def test_settings_at_their_limits_are_taken():
    biases = tuple((i, -1e30) for i in range(requests.MAX_BIASES - 1))
    limits: dict[str, Any] = dict(
        temperature=0,
        top_k=(1 << 31) - 1,
        top_p=1,
        max_new_tokens=1,
        min_p=0.999,
        repetition_penalty=1e-30,
        presence_penalty=-1e30,
        logit_bias=biases,
        banned=(300,),
        stop_ids=(300, 0),
    )
    extreme = Settings(**limits)
    assert hash(extreme) == hash(dataclasses.replace(extreme))
    assert dataclasses.asdict(sampling.Settings(**limits)) == dataclasses.asdict(
        extreme
    )


def test_biases_and_bans_are_limited_together():
    """200 + 56 = 256 are possible, 200 + 57 are not."""
    biases = tuple((i, 1.0) for i in range(200))
    Settings(logit_bias=biases, banned=tuple(range(200, 256)))
    with pytest.raises(ValueError, match="257 ids together; at most 256"):
        Settings(logit_bias=biases, banned=tuple(range(200, 257)))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"id": 7}, "a request's id must be a text, got 7"),
        ({"tokens": ()}, "request r: the prompt is empty"),
        ({"tokens": [1]}, r"request r: tokens must be a tuple, got \[1\]"),
        ({"tokens": (1, True)}, "request r: a token must be an int, got True"),
        ({"tokens": (1, "2")}, "request r: a token must be an int, got '2'"),
        ({"n": 0}, "request r: n must be > 0, got 0"),
        ({"n": True}, "request r: n must be an int, got True"),
        ({"seed": -1}, r"request r: seed must be in \[0, 2\^31\), got -1"),
        ({"seed": 1 << 31}, "request r: seed"),
        ({"seed": 1.0}, "request r: seed must be an int, got 1.0"),
        ({"first": -1}, "request r: first must be 0 or above, got -1"),
        ({"first": "0"}, "request r: first must be an int, got '0'"),
        ({"first": (1 << 31) - 2, "n": 3}, r"first \+ n must be at most 2\^31"),
        ({"settings": {}}, r"request r: settings must be Settings, got \{\}"),
    ],
)
def test_requests_out_of_range_are_refused(changed: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        Request(**{"id": "r", "tokens": (1,), **changed})


def test_the_last_sample_that_has_a_number_can_be_asked_for():
    assert Request("r", (1,), n=2, first=(1 << 31) - 2).settings == Settings()


def test_settings_come_from_json():
    """Lists become tuples, the ids of an object numbers, and an int a float."""
    values = json.loads(
        '{"temperature": 0, "top_k": 5, "stop": ["\\n", "END"], "min_p": 0.1, '
        '"logit_bias": {"7": -2, "0": 1.5}, "banned": [3, 4], "stop_ids": []}'
    )
    expected = Settings(
        temperature=0.0,
        top_k=5,
        stop=("\n", "END"),
        min_p=0.1,
        logit_bias=((7, -2.0), (0, 1.5)),
        banned=(3, 4),
    )
    found = settings(values)
    assert found == expected
    assert type(found.temperature) is type(found.logit_bias[0][1]) is float
    assert settings({}) == Settings()


def test_one_stop_text_and_pairs_are_taken_as_well():
    assert settings({"stop": "END"}) == Settings(stop=("END",))
    assert settings({"logit_bias": [[7, 1]]}) == Settings(logit_bias=((7, 1.0),))
    assert settings({"logit_bias": {7: 1}}) == Settings(logit_bias=((7, 1.0),))


def test_settings_give_the_same_settings_again():
    some = Settings(0.5, stop=("a",), logit_bias=((7, 1.0),), banned=(1,))
    assert settings(json.loads(json.dumps(dataclasses.asdict(some)))) == some


def test_what_is_given_is_left_as_it_was():
    values = {"stop": "END", "logit_bias": {"7": 1}}
    settings(values)
    assert values == {"stop": "END", "logit_bias": {"7": 1}}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temprature": 1}, "no field 'temprature'; did you mean 'temperature'"),
        ({"max_tokens": 1}, "no field 'max_tokens'; did you mean 'max_new_tokens'"),
        ({"stop_id": [1]}, "no field 'stop_id'; did you mean 'stop_ids'"),
        ({"top_k": "5"}, "settings: top_k: expected int, got str '5'"),
        ({"top_k": True}, "settings: top_k: expected int, got bool True"),
        ({"top_k": None}, "settings: top_k: expected int, got null"),
        ({"temperature": "1"}, "settings: temperature: expected float, got str '1'"),
        ({"top_p": 2}, r"settings: top_p must be in \(0, 1\], got 2.0"),
        ({"stop": [1]}, "settings: stop.0: expected str, got int 1"),
        ({"stop": ""}, "settings: stop: an empty text"),
        ({"banned": 3}, "settings: banned: expected .*, got int 3"),
        ({"banned": ["3"]}, "settings: banned.0: expected int, got str '3'"),
        ({"logit_bias": {"7": "1"}}, "settings: logit_bias.0.1: expected float"),
        ({"logit_bias": {"7": 1, 7: 2}}, "settings: logit_bias: id 7 is there twice"),
        ({"logit_bias": [[7]]}, "settings: logit_bias.0: expected 2 items, got 1"),
        ({"logit_bias": [7]}, "settings: logit_bias.0: expected .* got int 7"),
        *(
            ({"logit_bias": {key: 1}}, "logit_bias: a key must be a token id")
            for key in ("cat", "07", "-7", " 7", "7.0", "٧", "9" * 5000, True, None)
        ),
        ([1], r"settings: expected the fields of Settings, got \[1\]"),
        (None, "settings: expected the fields of Settings, got None"),
    ],
)
def test_json_that_says_something_else_is_refused(values: Any, message: str):
    with pytest.raises(ValueError, match=message):
        settings(values)


def test_an_error_says_where_the_settings_were():
    with pytest.raises(ValueError, match=r"^prompts.jsonl:3: top_k must be 0"):
        settings({"top_k": -1}, where="prompts.jsonl:3")
