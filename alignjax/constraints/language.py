# SPDX-License-Identifier: Apache-2.0
"""The constraint that an answer is in one language.

Three readings that make different mistakes: a classifier of byte n-grams (langid.py,
Lui and Baldwin 2012, in the fork py3langid) on the whole text, the same on every long
line, and the script with the most frequent small words. All must agree, so short texts
and mixed ones are often ambiguous, as they should be.
"""

from __future__ import annotations

import collections
import functools
import random
import re
import unicodedata
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from alignjax.constraints.constraint import (
    ConstraintType,
    Context,
    Params,
    Reading,
    Readings,
)
from alignjax.constraints.params import Choice
from alignjax.constraints.samples import SAMPLES

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier


class Language(NamedTuple):
    """A language by its ISO 639-1 code, its scripts as Unicode names characters, and
    frequent small words; () where no other language here has its script."""

    code: str
    scripts: tuple[str, ...]
    words: tuple[str, ...] = ()


def _language(code: str, script: str, words: str) -> Language:
    return Language(code, (script,), tuple(words.split()))


LANGUAGES: dict[str, Language] = {
    "English": _language(
        "en",
        "LATIN",
        "the of and to is in that it for was with as are this be not you have by",
    ),
    "French": _language(
        "fr",
        "LATIN",
        "le la les des et est une un du dans que qui pour pas sur avec il ce au",
    ),
    "German": _language(
        "de",
        "LATIN",
        "der die das und ist nicht ein eine zu den mit auf für es im sich dem",
    ),
    "Spanish": _language(
        "es",
        "LATIN",
        "el la los las de que y es en un una por con para no se del más lo su",
    ),
    "Italian": _language(
        "it",
        "LATIN",
        "il la di che e è un una per non con sono del della si le più gli i",
    ),
    "Portuguese": _language(
        "pt",
        "LATIN",
        "o a os as de que e é um uma para com não em do da se no na por mais",
    ),
    "Dutch": _language(
        "nl",
        "LATIN",
        "de het een en van is dat niet in op te zijn met voor die er ook aan",
    ),
    "Finnish": _language(
        "fi",
        "LATIN",
        "on ja ei se että kun ovat tai mutta myös voi joka niin kuin hän sen",
    ),
    "Turkish": _language(
        "tr",
        "LATIN",
        "bir ve bu için ile çok da de daha olarak gibi ne en ama her kadar",
    ),
    "Vietnamese": _language(
        "vi",
        "LATIN",
        "là và của có một không cho được các những này với trong khi để rất",
    ),
    "Swahili": _language(
        "sw",
        "LATIN",
        "na ya wa ni kwa katika za la kuwa hii si cha au hiyo lakini kama sana",
    ),
    "Russian": _language(
        "ru",
        "CYRILLIC",
        "и в не на что это с как по но из у за от для или бы же он мы нет есть так все",
    ),
    "Bulgarian": _language(
        "bg",
        "CYRILLIC",
        "и на е да се за от с не са като това или по но ще че в до при",
    ),
    "Arabic": _language(
        "ar",
        "ARABIC",
        "في من على إلى هذا هذه أن التي الذي هو هي لا ما مع كل عن أو كان",
    ),
    "Persian": _language(
        "fa",
        "ARABIC",
        "و در به از که این است را با برای آن یک هم می تا بر یا نیست",
    ),
    "Urdu": _language(
        "ur",
        "ARABIC",
        "کے کی ہے میں اور سے کا کو یہ ہیں نہیں پر بھی نے ایک وہ تو ہو",
    ),
    "Hindi": _language(
        "hi",
        "DEVANAGARI",
        "है के में और की का से को यह हैं नहीं पर भी एक ने कि तो हो",
    ),
    "Marathi": _language(
        "mr",
        "DEVANAGARI",
        "आहे आणि हे ते या आहेत नाही एक की हा ही व तर केले होते असे",
    ),
    "Nepali": _language(
        "ne",
        "DEVANAGARI",
        "छ र यो को मा लाई छन् पनि गर्न हो भने एक गर्छ हुन्छ तर धेरै",
    ),
    "Bengali": Language("bn", ("BENGALI",)),
    "Gujarati": Language("gu", ("GUJARATI",)),
    "Punjabi": Language("pa", ("GURMUKHI",)),
    "Tamil": Language("ta", ("TAMIL",)),
    "Telugu": Language("te", ("TELUGU",)),
    "Kannada": Language("kn", ("KANNADA",)),
    "Thai": Language("th", ("THAI",)),
    "Korean": Language("ko", ("HANGUL",)),
    "Japanese": Language("ja", ("HIRAGANA", "KATAKANA", "CJK")),
    "Chinese": Language("zh", ("CJK",)),
}
"""Those that IFEval asks for (arXiv:2311.07911), and some that are spoken by many."""

_OFTEN = ("French", "German", "Spanish", "Italian", "Portuguese", "Russian", "Chinese")
_LONG = 40  # letters of a line that a classifier can be asked about
_SHARE = 0.8  # of the letters in the language's script: names and terms may be foreign
_EDGES = re.compile(r"[\s.,;:!?…\"“”„«»'’()\[\]*_#।॥؟،؛、。/|0-9—–-]+")


@functools.cache
def _identifier() -> LanguageIdentifier:
    # An own one: the package's own can be told to know fewer languages. 0.4 s to load.
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE)


def _classify(text: str) -> str:
    """The code of the likeliest language; case tells nothing about it."""
    text = text.lower().encode(errors="replace").decode()  # lone surrogates
    return _identifier().classify(text)[0]


@functools.lru_cache(maxsize=4096)
def _script(letter: str) -> str:
    return unicodedata.name(letter, "").partition(" ")[0]


def _in_script(text: str, scripts: tuple[str, ...]) -> float:
    """Share of the letters that belong to these scripts; 0 if there are no letters."""
    letters = {c: n for c, n in collections.Counter(text).items() if c.isalpha()}
    own = sum(n for c, n in letters.items() if _script(c) in scripts)
    return own / max(1, sum(letters.values()))


def _small_words(text: str) -> dict[str, int]:
    """How many words of the text are frequent small words of each language."""
    words = collections.Counter(_EDGES.split(text.lower()))
    return {
        name: sum(words[word] for word in language.words)
        for name, language in LANGUAGES.items()
        if language.words
    }


def _reads_as(name: str, text: str) -> bool:
    """Whether script and small words speak for this language, and for none more."""
    language = LANGUAGES[name]
    if _in_script(text, language.scripts) < _SHARE:
        return False
    if name == "Japanese":
        return _in_script(text, ("HIRAGANA", "KATAKANA")) > 0.1
    if not language.words:
        return True
    counts = _small_words(text)
    others = (
        count
        for other, count in counts.items()
        if other != name and LANGUAGES[other].scripts == language.scripts
    )
    return counts[name] >= max([1, *others])


def _readings(params: Params, text: str) -> Readings:
    name = params["language"]
    code = LANGUAGES[name].code
    whole = _classify(text)
    lines = [line for line in text.split("\n") if sum(map(str.isalpha, line)) >= _LONG]
    found = [_classify(line) for line in lines] or [whole]
    foreign = [own for own in found if own != code]
    return {
        "whole": Reading(whole, whole == code),
        "every_line": Reading(foreign[0] if foreign else code, not foreign),
        "script_and_small_words": Reading(name, _reads_as(name, text)),
    }


def _violations(params: Params, text: str) -> Iterator[str]:
    """The text with more and more of another language; another language only."""
    other = SAMPLES["French" if params["language"] == "English" else "English"]
    for times in (1, 3):
        yield "\n".join([other] * times + [text])
    yield other


def _draw(rng: random.Random, context: Context) -> Params:
    is_english = not context.answer or _reads_as("English", context.answer)
    return {"language": rng.choice(_OFTEN) if is_english else "English"}


LANGUAGE = ConstraintType(
    name="language",
    family="language",
    version=1,
    stage=5,
    schema=(Choice("language", tuple(LANGUAGES)),),
    wordings=(
        "Write your whole answer in {language}.",
        "Answer only in {language}, with no other language.",
    ),
    readings=_readings,
    repair=lambda params, text: SAMPLES[params["language"]],
    violations=_violations,
    draw=_draw,
    keeps_content=False,
    package="py3langid",
)
