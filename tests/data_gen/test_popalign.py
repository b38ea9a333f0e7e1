# SPDX-License-Identifier: Apache-2.0
"""PopAlign: what each contrast asks, keeps and drops, with scripted models."""

import dataclasses
from collections import Counter

import pytest

from alignjax import constraints
from data_gen.engines import Generate
from data_gen.engines.scripted import ScriptedEngine
from data_gen.records import Message
from data_gen.seeds import Seed
from data_gen.strategies import Context, Identity, Lineage, Trail, drive, popalign
from data_gen.strategies.popalign import (
    ModelContrast,
    PopAlign,
    audit,
    contrasts,
    wording,
)
from data_gen.strategies.popalign.case import Case, Prompt

TASK = Seed("s1", "Describe the sea near the old harbour.", answer="It is a calm bay.")
GOOD = "The sea by the harbour is grey, cold and calm today."
POOR = "It is just some water, who knows what more."
NO = "I'm sorry, but I cannot do that for you today."


@dataclasses.dataclass
class Watched(ScriptedEngine):
    """Keeps the requests that it was asked."""

    requests: list[Generate] = dataclasses.field(default_factory=list)

    def generate(self, requests):
        def watched():
            for request in requests:
                if request is not None:
                    self.requests.append(request)
                yield request

        return super().generate(watched())


def made(rule, config, *, task=TASK, rules=None, reward=None):
    """Outcome of the one lineage, and the engines by name."""
    engines = {"": Watched(rule)}
    for name, other in (rules or {}).items():
        engines[name] = Watched(other, name=name)
    context = Context(
        7,
        engines[""].fingerprint,
        engines[""].facts,
        engines={
            name: Identity(engine.fingerprint, engine.facts)
            for name, engine in engines.items()
            if name
        },
        reward=reward,
    )
    planned = popalign.plan([(task, "train")], config, context)
    (outcome,) = drive(planned, engines).values()
    for example in outcome.examples:
        assert list(audit.flaws(example)) == []
    return outcome, engines


def only(name, **changes) -> PopAlign:
    return PopAlign(**{"contrasts": (name,), "attempts": 1, **changes})


def baseline(name, **changes) -> PopAlign:
    return PopAlign(**{"contrasts": (), "baselines": (name,), "attempts": 1, **changes})


def reasons(outcome):
    return Counter(item.reason for item in outcome.rejected)


def sided(better: str, worse: str):
    """A model that does what the wordings of the negative side ask for."""
    marks = ("poor", "unhelpful", "unsafe", "vague", "careless", "muddled", "bad")

    def rule(messages, sample):
        asked = messages[-1].content
        is_worse = any(mark in asked for mark in marks) or any(
            "hope" in message.content for message in messages
        )
        return worse if is_worse else better

    return rule


@pytest.mark.parametrize("variant", ["general", "hh"])
@pytest.mark.parametrize("name", ["prefix", "demonstration"])
def test_the_example_is_bare_whatever_was_shown(name, variant):
    outcome, engines = made(sided(GOOD, POOR), only(name, variant=variant))
    (example,) = outcome.examples
    assert example.strategy == f"popalign.{name}"
    assert example.prompt == (Message("user", TASK.text),)
    assert example.chosen.text == GOOD
    assert [negative.text for negative in example.negatives] == [POOR]
    assert example.chosen.token_ids != ()
    assert example.proof["evidence"] == "construction"
    better, worse = engines[""].requests
    assert better.messages != worse.messages
    assert TASK.text in better.messages[-1].content
    assert better.seed != worse.seed == example.provenance["worse"]["seed"]
    assert example.provenance["better"]["settings"]["temperature"] == 1.0
    assert outcome.stages["popalign.prefix", 0, "pairs"] == (name == "prefix")


@pytest.mark.parametrize("count", [1, 3])
def test_both_sides_see_the_same_questions(count):
    """`count` questions with answers, then the task: 2 * count + 1 messages."""
    _, engines = made(sided(GOOD, POOR), only("demonstration", demonstrations=count))
    better, worse = (request.messages for request in engines[""].requests)
    assert len(better) == len(worse) == 2 * count + 1
    assert better[::2] == worse[::2]
    assert not set(better[1::2]) & set(worse[1::2])


def test_a_demonstration_that_is_repeated_is_an_echo():
    shown = wording.DEMONSTRATIONS[0][1].better.split(". ")[0]
    outcome, _ = made(lambda *_: f"{shown}, I think.", only("demonstration"))
    assert reasons(outcome)["echo"] == 1  # the other side has not seen this sentence
    assert outcome.examples == ()


def test_the_worked_example_of_a_form_is_no_answer_either():
    own = f"Response: {wording.DEMONSTRATIONS[0][1].worse}"
    config = only("elicitive", shows_form=True)
    outcome, _ = made(sided(f"Response: {GOOD}", own), config)
    assert reasons(outcome) == {"echo": 1}


def test_an_answer_that_repeats_its_constraint_is_an_echo():
    """Else it would end with a question only because the constraint says so."""
    config = only("refine", constraints=1, types=("end_question",))
    outcome, engines = made(lambda *_: GOOD, config)
    prompt = engines[""].requests[0].messages[0].content
    sentence = prompt.removeprefix(TASK.text).strip()
    outcome, _ = made(lambda *_: f"{GOOD} {sentence} Is that so?", config)
    assert reasons(outcome) == {"echo": 1}


@pytest.mark.parametrize(
    ("reply", "kept"),
    [
        (f"Thought: Be clear.\nResponse: {GOOD}", GOOD),
        (f"**Thought:** Be clear.\n\n**Response:** {GOOD}", GOOD),
        (
            f"Thought: a\nResponse:\n\n- {GOOD}\n- More of it.",
            f"- {GOOD}\n- More of it.",
        ),
    ],
)
def test_the_thought_is_stripped(reply, kept):
    outcome, engines = made(sided(reply, f"Response: {POOR}"), only("elicitive"))
    (example,) = outcome.examples
    assert example.chosen.text == kept
    assert example.negatives[0].text == POOR
    # The ids that were sampled hold the thought too.
    assert example.chosen.token_ids == example.negatives[0].token_ids == ()
    assert example.chosen.sum_logprob is None
    limits = {r.settings.max_new_tokens for r in engines[""].requests}
    assert limits == {128 + 96}


@pytest.mark.parametrize("variant", ["general", "hh"])
def test_an_example_of_the_form_is_shown_if_that_is_wanted(variant):
    """The same question on both sides, answered in the form, well and badly."""
    _, engines = made(
        sided(f"Response: {GOOD}", f"Response: {POOR}"),
        only("elicitive", shows_form=True, variant=variant),
    )
    better, worse = (request.messages for request in engines[""].requests)
    assert [m.role for m in better] == [m.role for m in worse]
    assert [m.role for m in better] == ["user", "assistant", "user"]
    question, answers = wording.DEMONSTRATIONS[0]
    for messages, answer in zip((better, worse), answers, strict=True):
        assert messages[0].content.endswith(question)
        assert messages[2].content.endswith(TASK.text)
        assert wording.response_field(messages[1].content) == answer
    assert better[0].content != worse[0].content


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (GOOD, "no_response_field"),
        ("Thought: Be clear and good.\nResponse:", "no_response_field"),
        (f"Response: {GOOD}\nThought: That was clear.", "marker_leak"),
        (f"Response: {GOOD}\n\nRequest: And now?", "marker_leak"),
        (f"Response: A good response is this. {GOOD}", "contrast_leak"),
        (f"Thought: a\nResponse: {NO}", "refusal"),
    ],
)
def test_an_elicitive_answer_out_of_form_is_dropped(reply, reason):
    outcome, _ = made(sided(reply, f"Response: {POOR}"), only("elicitive"))
    assert outcome.examples == ()
    assert reasons(outcome) == {reason: 1}
    (dropped,) = outcome.rejected
    assert dropped.text == reply
    assert dropped.generation


def test_a_side_is_asked_again_until_an_answer_passes():
    """The better side fails twice: 3 requests for it, 1 for the other, and the seeds
    of its attempts differ."""
    left = [NO, "Too short.", GOOD]
    rule = sided("", POOR)
    outcome, engines = made(
        lambda messages, sample: rule(messages, sample) or left.pop(0),
        only("prefix", attempts=4),
    )
    assert [e.chosen.text for e in outcome.examples] == [GOOD]
    assert len(engines[""].requests) == 4
    assert len({request.seed for request in engines[""].requests}) == 4
    assert reasons(outcome) == {"refusal": 1, "too_short": 1}


def test_answers_with_the_same_words_are_no_pair():
    """Case and punctuation do not count; an engine that repeats itself is not noted
    twice."""
    outcome, engines = made(sided(GOOD, f"{GOOD.upper()}!"), only("prefix", attempts=3))
    assert outcome.examples == ()
    assert reasons(outcome) == {"identical": 1}
    assert len(engines[""].requests) == 1 + 3


def test_a_refusal_may_be_preferred_where_that_is_wanted():
    for keep, count in ((False, 0), (True, 1)):
        outcome, _ = made(sided(NO, POOR), only("prefix", keep_refusals=keep))
        assert len(outcome.examples) == count
        outcome, _ = made(sided(GOOD, NO), only("prefix", keep_refusals=keep))
        assert outcome.examples == ()  # never as the other answer


def test_refine_prefers_the_second_version():
    def rule(messages, sample):
        return GOOD if len(messages) == 3 else POOR

    outcome, engines = made(rule, only("refine"))
    (example,) = outcome.examples
    assert (example.chosen.text, example.negatives[0].text) == (GOOD, POOR)
    draft, second = engines[""].requests
    assert draft.messages == example.prompt
    assert [message.role for message in second.messages] == [
        "user",
        "assistant",
        "user",
    ]
    assert second.messages[1].content == POOR


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        (POOR, "identical"),
        (NO, "refusal"),
        (f"Here is an improved version: {GOOD}", "contrast_leak"),
        ("That can be better. Do it in bold then.", "echo"),
    ],
)
def test_a_refinement_must_be_a_new_answer(second, reason):
    outcome, _ = made(
        lambda messages, sample: second if len(messages) == 3 else POOR, only("refine")
    )
    assert outcome.examples == ()
    assert reasons(outcome) == {reason: 1}
    assert outcome.stages["popalign.refine", 0, "answered"] == 0


def test_a_refinement_may_keep_the_draft():
    """What it must not repeat is the request, not the answer that it builds on."""
    outcome, _ = made(
        lambda messages, sample: f"{POOR} {GOOD}" if len(messages) == 3 else POOR,
        only("refine"),
    )
    assert len(outcome.examples) == 1


LADDER = ModelContrast(("l", "m", "s"), (34e9, 9e9, 6e9), min_gap=3.0)


def test_model_contrasts_are_bare_prompts_to_two_engines():
    """34 / 9 = 3.8 and 34 / 6 = 5.7 are 3 apart, 9 / 6 = 1.5 is not: m is preferred to
    nobody. All tasks' pairs have l on the better side."""
    config = only("parameters", parameters=LADDER)
    rules = {name: lambda *_, n=name: f"{GOOD} So says {n}." for name in "lms"}
    worse = set()
    for number in range(8):
        task = Seed(f"t{number}", TASK.text)
        outcome, engines = made(lambda *_: GOOD, config, rules=rules, task=task)
        (example,) = outcome.examples
        gap = example.proof["gap"]
        assert example.chosen.text.endswith("So says l.")
        assert example.negatives[0].text.endswith(f"So says {gap['worse']}.")
        assert gap["gap"] == pytest.approx({"m": 34 / 9, "s": 34 / 6}[gap["worse"]])
        assert example.provenance["worse"]["name"] == gap["worse"]
        facts = example.provenance["worse"]["engine"]
        assert facts["fingerprint"] == engines[gap["worse"]].fingerprint
        assert [len(engines[name].requests) for name in ("", "l", gap["worse"])] == [
            *(0, 1, 1)
        ]
        assert engines["l"].requests[0].messages == example.prompt
        worse.add(gap["worse"])
    assert worse == {"m", "s"}


def test_ranks_and_points_measure_gaps():
    """Ranks 1, 2, 3: two apart is only (a, c). Points 9, 8, 2: six apart or more are
    (a, c) and (b, c)."""
    ranked = ModelContrast(("a", "b", "c"), min_gap=2)
    pointed = ModelContrast(("a", "b", "c"), (9, 8, 2), min_gap=6)
    assert [tuple(gap) for gap in ranked.pairs(is_quotient=False)] == [("a", "c", 2)]
    assert [gap[:2] for gap in pointed.pairs(is_quotient=False)] == [
        ("a", "c"),
        ("b", "c"),
    ]


def test_ids_of_another_tokenizer_are_left_out():
    class Foreign(Watched):
        @property
        def facts(self):
            return {**super().facts, "template": "of another model"}

    config = only("leaderboard", leaderboard=ModelContrast(("", "other")))
    own, other = Watched(lambda *_: GOOD), Foreign(lambda *_: POOR, name="other")
    identity = Identity(other.fingerprint, other.facts)
    context = Context(7, own.fingerprint, own.facts, engines={"other": identity})
    planned = popalign.plan([(TASK, "train")], config, context)
    (outcome,) = drive(planned, {"": own, "other": other}).values()
    (example,) = outcome.examples
    assert example.chosen.token_ids != ()
    assert example.negatives[0].token_ids == ()


CONSTRAINED = {"constraints": 1, "types": ("lowercase",)}


def obedient(asked_side: str):
    """Writes in lower case on one side only."""
    rule = sided("better", "worse")

    def obey(messages, sample):
        own = rule(messages, sample)
        text = GOOD if own == "better" else POOR
        return text.lower() if own == asked_side else text

    return obey


@pytest.mark.parametrize(
    ("side", "drop", "verdict", "pairs"),
    [
        ("better", "verifiers", "won", 1),
        ("worse", "verifiers", "lost", 0),
        ("worse", "none", "lost", 1),
        ("none", "verifiers", "tied", 1),
    ],
)
def test_verifiers_measure_prompts_with_constraints(side, drop, verdict, pairs):
    """The answer in lower case meets the constraint, the other fails it."""
    config = only("prefix", drop=drop, **CONSTRAINED)
    outcome, _ = made(obedient(side), config)
    assert outcome.stages["popalign.prefix", 0, f"verifiers_{verdict}"] == 1
    assert len(outcome.examples) == pairs
    for example in outcome.examples:
        assert example.constraints == ({"type": "lowercase", "params": {}},)
        assert constraints.parse(example.prompt[0].content) != ()
        is_won = verdict == "won"
        assert example.proof["evidence"] == (
            "programmatic" if is_won else "construction"
        )
    assert reasons(outcome) == ({} if pairs else {"contradicted": 1})


def test_all_contrasts_ask_the_same_constraints():
    config = PopAlign(constraints=2, attempts=1)
    _, engines = made_all(sided(GOOD, POOR), config)
    drafts = {r.messages[0].content for r in engines[""].requests}
    stated = {constraints.parse(text) for text in drafts} - {()}
    assert [len(asked) for asked in stated] == [2]


def made_all(rule, config):
    engine = Watched(rule)
    context = Context(7, engine.fingerprint, engine.facts)
    planned = popalign.plan([(TASK, "train")], config, context)
    return drive(planned, engine), {"": engine}


def test_earlier_turns_begin_every_request():
    """The example's prompt is the conversation, a judge reads all of it."""
    history = (Message("user", "Hello."), Message("assistant", "Good day."))
    engine = Watched(sided(GOOD, POOR))
    context = Context(7, engine.fingerprint, engine.facts)
    trail = Trail("popalign.prefix", "s1", "train")
    prompt = Prompt(TASK.text, (), history)
    case = Case("prefix", TASK, "train", prompt, PopAlign(), context, True, trail)

    def steps():
        yield from contrasts.prefix(case)
        return trail.outcome()

    (outcome,) = drive([Lineage("one", 4, steps())], engine).values()
    (example,) = outcome.examples
    assert example.prompt == (*history, Message("user", TASK.text))
    for request in engine.requests:
        assert request.messages[:2] == history
        assert TASK.text in request.messages[2].content
    assert prompt.whole == f"user: Hello.\n\nassistant: Good day.\n\n{TASK.text}"


def test_a_judge_is_asked_in_both_orders():
    """It prefers the longer reply, wherever that stands: GOOD has 52 characters, POOR
    43. The reply that is asked about second time stands second."""

    def longer(messages, sample):
        text = messages[0].content
        first = text.split("[Reply A]\n")[1].split("\n\n[Reply B]")[0]
        second = text.split("[Reply B]\n")[1].split("\n\n[Question]")[0]
        return "A" if len(first) > len(second) else "B"

    config = only("prefix", oracle="judge", judge="j")
    outcome, engines = made(sided(GOOD, POOR), config, rules={"j": longer})
    (example,) = outcome.examples
    assert outcome.stages["popalign.prefix", 0, "judge_won"] == 1
    assert example.proof["oracle"]["choices"] == ["A", "B"]
    assert example.proof["evidence"] == "construction"  # a judge is weak
    first, second = (request.messages[0].content for request in engines["j"].requests)
    assert first.index(GOOD) < first.index(POOR)
    assert second.index(POOR) < second.index(GOOD)
    assert {request.settings.temperature for request in engines["j"].requests} == {0.0}
    outcome, _ = made(sided(POOR, GOOD), config, rules={"j": longer})
    assert outcome.stages["popalign.prefix", 0, "judge_lost"] == 1
    assert len(outcome.examples) == 1  # only verifiers drop by default
    strict = dataclasses.replace(config, drop="any")
    outcome, _ = made(sided(POOR, GOOD), strict, rules={"j": longer})
    assert reasons(outcome) == {"contradicted": 1}


@pytest.mark.parametrize(
    ("reply", "verdict"), [("A", "tied"), ("Reply B.", "tied"), ("Both!", "undecided")]
)
def test_a_judge_that_follows_the_order_decides_nothing(reply, verdict):
    config = only("prefix", oracle="judge", judge="j")
    outcome, _ = made(sided(GOOD, POOR), config, rules={"j": lambda *_: reply})
    assert outcome.stages["popalign.prefix", 0, f"judge_{verdict}"] == 1


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        *(("A", "A"), ("B.", "B"), ("(A)", "A"), ("**B**", "B"), ("Reply A", "A")),
        *(("The answer is B", "B"), ("A is better", "A"), ("Answer: B", "B")),
        *(("A better reply is B", ""), ("Neither", ""), ("", ""), ("a", "")),
        ("Both A and B", ""),
    ],
)
def test_letters_are_read_from_the_beginning_of_a_reply(reply, letter):
    assert wording.letter(reply) == letter


class Length:
    """A reward for tests: more characters are better."""

    fingerprint = "length/1"

    def __call__(self, prompt, answers):
        return [float(len(answer)) for answer in answers]


def test_a_reward_measures():
    """GOOD has 52 characters, POOR 43."""
    config = only("prefix", oracle="reward")
    outcome, _ = made(sided(GOOD, POOR), config, reward=Length())
    (example,) = outcome.examples
    assert example.proof["oracle"]["rewards"] == [52.0, 43.0]
    assert outcome.stages["popalign.prefix", 0, "reward_won"] == 1
    with pytest.raises(ValueError, match=r"run\(config, reward=\.\.\.\)"):
        made(sided(GOOD, POOR), config)


@pytest.mark.parametrize("given", [[float("nan"), 1.0], [1.0]])
def test_a_reward_that_is_no_number_is_refused(given):
    class Broken(Length):
        def __call__(self, prompt, answers):
            return given

    with pytest.raises(ValueError, match="'length/1' must give one finite number"):
        made(sided(GOOD, POOR), only("prefix", oracle="reward"), reward=Broken())


def test_rlaif_takes_its_label_from_the_judge():
    """The second sample is the one that the judge prefers in both orders."""
    left = [POOR, GOOD]

    def rule(messages, sample):
        return left.pop(0)

    def judge(messages, sample):
        text = messages[0].content
        return "A" if text.index(GOOD) < text.index(POOR) else "B"

    config = baseline("rlaif", oracle="judge", judge="j")
    outcome, _ = made(rule, config, rules={"j": judge})
    (example,) = outcome.examples
    assert example.strategy == "baseline.rlaif"
    assert (example.chosen.text, example.negatives[0].text) == (GOOD, POOR)
    assert example.proof["evidence"] == "judged"
    assert example.proof["label"]["choices"] == ["A", "B"]
    # The one who gave the label does not measure it.
    assert not [key for key in outcome.stages if key[2] in popalign.STAGES[2:-2]]
    left = [POOR, GOOD]
    outcome, _ = made(rule, config, rules={"j": lambda *_: "A"})
    assert reasons(outcome) == {"no_preference": 1}


def numbered(*answers):
    return lambda messages, sample: answers[sample]


def test_best_of_n_by_reward():
    config = baseline("best_of_n", oracle="reward", samples=4)
    texts = (POOR, GOOD, f"{GOOD} And blue.", GOOD.upper())
    outcome, _ = made(numbered(*texts), config, reward=Length())
    (example,) = outcome.examples
    assert (example.chosen.text, example.negatives[0].text) == (texts[2], POOR)
    assert example.chosen.generation.endswith("/2")
    assert example.proof["evidence"] == "judged"


def test_best_of_n_by_verifiers():
    config = baseline("best_of_n", samples=3, **CONSTRAINED)
    outcome, _ = made(numbered(POOR, GOOD.lower(), GOOD), config)
    (example,) = outcome.examples
    assert example.chosen.text == GOOD.lower()
    assert example.proof["evidence"] == "programmatic"
    outcome, _ = made(numbered(POOR, f"{GOOD} Yes.", GOOD), config)
    assert reasons(outcome) == {"no_preference": 1}


def test_best_of_n_by_a_judge_is_a_tournament():
    """3 samples: 3 pairs in two orders each, and the final pair again. The judge
    prefers the longer reply."""

    def longer(messages, sample):
        text = messages[0].content
        first = text.split("[Reply A]\n")[1].split("\n\n[Reply B]")[0]
        second = text.split("[Reply B]\n")[1].split("\n\n[Question]")[0]
        return "A" if len(first) > len(second) else "B"

    config = baseline("best_of_n", samples=3, oracle="judge", judge="j")
    texts = (GOOD, POOR, f"{GOOD} And blue.")
    outcome, engines = made(numbered(*texts), config, rules={"j": longer})
    (example,) = outcome.examples
    assert (example.chosen.text, example.negatives[0].text) == (texts[2], POOR)
    assert len(engines["j"].requests) == 3 * 2 + 2


def test_spin_prefers_the_answer_that_came_with_the_seed():
    outcome, _ = made(lambda *_: GOOD, baseline("spin"))
    (example,) = outcome.examples
    assert (example.chosen.text, example.chosen.kind) == (TASK.answer, "given")
    assert example.negatives[0].text == GOOD
    assert example.provenance["better"] == {}
    outcome, _ = made(lambda *_: GOOD, baseline("spin"), task=Seed("s2", TASK.text))
    assert reasons(outcome) == {"no_target": 1}


def test_context_distillation_keeps_the_answer_of_rlcds_better_side():
    """Both ask the same with the same seed; what is kept has no negative."""
    config = baseline("rlcd", baselines=("rlcd", "context_distillation"))
    outcomes, engines = made_all(sided(GOOD, POOR), config)
    rlcd, distilled = (outcome.examples[0] for outcome in outcomes.values())
    assert rlcd.chosen == distilled.chosen
    assert rlcd.negatives[0].text == POOR
    assert distilled.negatives == ()
    seed = rlcd.provenance["better"]["seed"]
    assert distilled.provenance["better"]["seed"] == seed
    assert list(audit.flaws(distilled)) == []
    better = [request for request in engines[""].requests if request.seed == seed]
    assert len(better) == 2  # a store would sample it once
    assert better[0].messages == better[1].messages != distilled.prompt


def test_weights_are_those_of_the_contrast():
    config = PopAlign(contrasts=("prefix", "refine"), weights={"refine": 0.25})
    outcomes, _ = made_all(
        lambda messages, _: f"{GOOD} Asked: {sum(len(m.content) for m in messages)}.",
        config,
    )
    weights = {
        example.strategy: example.weight
        for outcome in outcomes.values()
        for example in outcome.examples
    }
    assert weights == {"popalign.prefix": 1.0, "popalign.refine": 0.25}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"contrasts": ()}, "at least one of contrasts or baselines"),
        ({"contrasts": ("prefixes",)}, "no 'prefixes'; expected some of prefix, dem"),
        ({"contrasts": ("prefix", "prefix")}, "given twice"),
        ({"baselines": ("dpo",)}, "no 'dpo'; expected some of rlcd"),
        ({"weights": {"parameters": 1.0}}, "weights: there is no 'parameters'"),
        ({"weights": {"prefix": -1.0}}, r"weights\.prefix must be above 0"),
        ({"variant": "harmless"}, "variant must be one of general, hh"),
        ({"contrasts": ("leaderboard",)}, "leaderboard needs its engines"),
        ({"leaderboard": LADDER}, "leaderboard is given, but is not among contrasts"),
        ({"demonstrations": 4}, r"demonstrations must be in \[1, 3\]"),
        ({"temperature": 0.0}, "set attempts to 1"),
        ({"top_p": 0.0}, "top_p"),
        ({"types": ("lowercase",)}, "types are read only with constraints"),
        ({"judge": "j"}, "read only with `oracle: judge`"),
        ({"judged": 3}, "read only with `oracle: judge`"),
        ({"baselines": ("rlaif",)}, "rlaif takes its labels from a judge"),
        ({"baselines": ("best_of_n",)}, "best_of_n needs somebody who chooses"),
        ({"samples": 1}, "samples must be at least 2"),
        ({"drop": "all"}, "drop must be one of none, verifiers, any"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        PopAlign(**settings)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ModelContrast(("a",)), "two different engines"),
        (lambda: ModelContrast(("a", "a")), "two different engines"),
        (lambda: ModelContrast(("a", "b"), (1.0,)), "2 engines, 1 values"),
        (lambda: ModelContrast(("a", "b"), (1.0, 2.0)), "must fall"),
        (
            lambda: only("parameters", parameters=ModelContrast(("a", "b"))),
            "must give each engine's number",
        ),
        (
            lambda: only("leaderboard", leaderboard=ModelContrast(("a", "b"), (), 2)),
            "no two engines are 2 apart",
        ),
    ],
)
def test_models_that_do_not_fit_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
