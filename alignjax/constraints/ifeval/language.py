# SPDX-License-Identifier: Apache-2.0
"""Which language a text is written in, as IFEval tells it: by the langdetect package,
which draws at random; here with one seed, so that a text always gets one answer."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from langdetect.detector_factory import DetectorFactory

_CODES = """
ar bg bn de en es fa fi fr gu he hi it ja kn ko ml mr ne pa pl pt ru sw ta te th uk ur
vi
"""
# ISO 639-1 codes of the languages that IFEval's prompts may ask for.
CODES = frozenset(_CODES.split())


def is_written_in(text: str, code: str) -> bool:
    """Whether the likeliest language of a text is the one with the ISO 639-1 code.

    A text without letters is in every language: it gives nothing to tell from.
    """
    from langdetect.lang_detect_exception import LangDetectException

    detector = _profiles().create()
    detector.append(text)
    try:
        return detector.detect() == code
    except LangDetectException:
        return True


@functools.cache
def _profiles() -> DetectorFactory:
    """The languages' profiles; a factory of our own, so that its seed is ours too."""
    from langdetect.detector_factory import PROFILES_DIRECTORY, DetectorFactory

    # In the order of their names: the order in a folder differs between file systems.
    files = sorted(Path(PROFILES_DIRECTORY).iterdir())
    factory = DetectorFactory()
    factory.load_json_profile([file.read_text("utf-8") for file in files])
    factory.set_seed(0)
    return factory
