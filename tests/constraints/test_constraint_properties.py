# SPDX-License-Identifier: Apache-2.0
"""What holds for every constraint type and every text."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import random
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignjax import constraints
from alignjax.constraints import TYPES, Verdict

_TOKENS = """
the a leaf leaves fall because trees save water in cold days well-known state-of-the-art
don't isn’t café naïve façade e.g. i.e. etc. Dr. Smith NASA I A 3.5 1,000 2nd 42 km² ½
**bold** *soft* _x_ [name] (aside) "quoted" “curly” #tag <b> <<x>> | & https://a.b/c?d=e
Straße İstanbul 日本 🙂 … — P.S. 10% U.S. a.m. quick zebra Why What okay very
"""
_ENDS = (".", ".", ".", "!", "?", "...", "?!", ",", ":", "", '."', ".)")
_GLUE = (
    " ",
    " ",
    " ",
    "\n",
    "\n\n",
    "\n- ",
    "\n* ",
    "\n1. ",
    "\n# ",
    "\n***\n",
    "\r\n",
)

TASK = "Explain briefly why leaves fall in autumn."
names = st.sampled_from(sorted(TYPES))
seeds = st.integers(0, 2**32 - 1)


@st.composite
def texts(draw: st.DrawFn) -> str:
    """One to six sentences of ordinary and awkward tokens; the first is ordinary."""
    parts = [draw(st.sampled_from(("Leaves fall", "It is cold", "trees rest")))]
    for _ in range(draw(st.integers(1, 6))):
        words = draw(st.lists(st.sampled_from(_TOKENS.split()), min_size=1, max_size=8))
        parts.append(" ".join(words) + draw(st.sampled_from(_ENDS)))
        parts.append(draw(st.sampled_from(_GLUE)))
    return " ".join(parts[:2]) + "".join(parts[2:])


def drawn(name: str, seed: int) -> constraints.Constraint:
    return constraints.sample(name, random.Random(seed), topic=TASK)


@pytest.mark.parametrize("name", TYPES)
@settings(max_examples=6, deadline=None)
@given(text=texts(), seed=seeds)
def test_witness_passes_is_idempotent_and_its_mutant_fails(name, text, seed):
    constraint = drawn(name, seed)
    witness = constraints.witness(constraint, text)
    assert constraints.check(constraint, witness) is Verdict.PASS, constraints.measure(
        constraint, witness
    )
    assert constraints.witness(constraint, witness) == witness
    mutant = constraints.mutate(constraint, witness)
    assert constraints.check(constraint, mutant) is Verdict.FAIL


@settings(max_examples=100, deadline=None)
@given(name=names, text=texts(), seed=seeds)
def test_verdict_does_not_see_unicode_form_or_outer_whitespace(name, text, seed):
    constraint = drawn(name, seed)
    verdict = constraints.check(constraint, text)
    for form in ("NFC", "NFD"):
        same = f"\n  {unicodedata.normalize(form, text)}\t\r\n"
        assert constraints.check(constraint, same) is verdict


@settings(max_examples=100, deadline=None)
@given(name=names, text=texts(), seed=seeds)
def test_check_is_not_random_and_agrees_with_its_measurements(name, text, seed):
    constraint = drawn(name, seed)
    random.seed(1)
    verdict = constraints.check(constraint, text)
    random.seed(2)
    measured = constraints.measure(constraint, text)
    assert json.loads(json.dumps(measured)) == measured
    passes = {reading["passes"] for reading in measured.values()}
    expected = {
        frozenset({True}): Verdict.PASS,
        frozenset({False}): Verdict.FAIL,
        frozenset({True, False}): Verdict.AMBIGUOUS,
    }
    assert verdict is expected[frozenset(passes)]


@settings(max_examples=100, deadline=None)
@given(name=names, text=st.text(max_size=60), seed=seeds)
def test_any_text_gets_a_verdict_without_an_error(name, text, seed):
    measured = constraints.measure(drawn(name, seed), text)
    assert "error" not in measured


@pytest.mark.parametrize("name", TYPES)
def test_empty_text_fails_every_type(name):
    for text in ("", " \n\t "):
        assert constraints.check(drawn(name, 0), text) is Verdict.FAIL


@settings(max_examples=80, deadline=None)
@given(name=names, seed=seeds, variant=st.integers(0, 3))
def test_parse_recovers_what_render_wrote_inside_an_instruction(name, seed, variant):
    constraint = drawn(name, seed)
    sentence = constraints.render(constraint, variant)
    assert constraints.parse(sentence) == (constraint,)
    assert constraints.parse(f"{TASK} {sentence} Thank you.") == (constraint,)


@pytest.mark.parametrize("name", TYPES)
def test_every_type_has_wordings_that_differ_and_round_trip(name):
    kind = TYPES[name]
    assert kind.name == name
    assert len(set(kind.wordings)) >= 2
    for seed in range(5):
        constraint = drawn(name, seed)
        for variant in range(len(kind.wordings)):
            sentence = constraints.render(constraint, variant)
            assert constraints.parse(f"{TASK}\n{sentence}") == (constraint,)


@settings(max_examples=100, deadline=None)
@given(name=names, seed=seeds)
def test_constraint_survives_json(name, seed):
    constraint = drawn(name, seed)
    stored = json.loads(json.dumps(constraint.to_json()))
    restored = constraints.Constraint.from_json(stored)
    assert restored == constraint
    assert hash(restored) == hash(constraint)
    assert restored.id == constraint.id


VARIANTS = {
    "words_min": "words_max",
    "sentences_min": "sentences_max",
    "sentences_exact": "sentences_max",
    "capital_words_max": "capital_words",
    "exclamations_min": "exclamations_max",
    "letter_min": "letter_max",
    "word_times_max": "word_times",
    "include_words": "include_word",
    "forbidden_words": "forbidden_word",
}
"""Types that differ from another in direction or in the number of parameters only."""


def test_86_types_of_which_77_are_more_than_variants_and_each_has_its_fingerprint():
    assert len(TYPES) == 86
    assert set(VARIANTS) | set(VARIANTS.values()) <= set(TYPES)
    assert len(set(TYPES) - set(VARIANTS)) == 77
    assert len({constraints.fingerprint(name) for name in TYPES}) == 86


def test_the_fingerprint_covers_the_modules_that_a_family_imports():
    """All but vocabularies and samples, which decide no verdict."""
    always = {"constraint", "params", "text"}
    for kind in TYPES.values():
        module = importlib.import_module(f"alignjax.constraints.{kind.family}")
        tree = ast.parse(inspect.getsource(module))
        imported = {
            node.module.rpartition(".")[2]
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            and node.module
            and node.module.startswith("alignjax.constraints.")
        }
        helpers = constraints.HELPERS.get(kind.family, ())
        covered = {module.__name__.rpartition(".")[2] for module in helpers}
        assert imported - always - {"vocabulary", "samples"} == covered


def test_a_package_that_helps_to_decide_is_imported_by_the_family_that_names_it():
    named = {kind.family: kind.package for kind in TYPES.values() if kind.package}
    assert named == {"formats": "jsonschema", "language": "py3langid"}
    for family, package in named.items():
        module = importlib.import_module(f"alignjax.constraints.{family}")
        assert f"from {package}" in inspect.getsource(module)
