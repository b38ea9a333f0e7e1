# SPDX-License-Identifier: Apache-2.0
"""Tokenizers: text to ids, and conversations to prompts, from a model folder.

User text never becomes special tokens: only the chat template can write those.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import tokenizers

from alignjax import json_file
from alignjax.data import template

MAX_TOKENIZER = 64_000_000
SLOW = ("tokenizer.model", "vocab.json", "vocab.txt")  # converted by transformers

# End-of-turn tokens of common templates; one counts if the template writes it.
TURN_ENDS = (
    "<|im_end|>",
    "<|eot_id|>",
    "<|end|>",
    "<end_of_turn>",
    "<|end_of_turn|>",
    "<|return|>",
    "</s>",
)
# Unicode noncharacters: no text may hold them, so they can stand for what the
# template wrote (a slot) and for what a message held (a quote).
_SLOT, _QUOTE = "\ufdd0", "\ufdd1"
_ROLES = ("bos_token", "eos_token", "pad_token", "unk_token", "cls_token", "sep_token")


@runtime_checkable
class Turn(Protocol):
    """One message of a conversation."""

    @property
    def role(self) -> str: ...

    @property
    def content(self) -> str: ...


Messages = Sequence[Turn | Mapping[str, str]]


class Tokenizer:
    """A tokenizer and its chat template.

    Attributes:
      eos_ids: ids that end an answer, the template's end of turn first; empty for an
        encoder without a template.
      pad_id: fills rows; may equal an end id, so padding must be known by position.
      bos_id: None where the vocabulary has none.
      vocab_size: largest id + 1.
      special_tokens: id of each special token.
      byte_values: the byte of each id that stands for one (sentencepiece's fallback,
        whose rows of bytes are decoded together); empty for other tokenizers.
      chat_template: Jinja source, or None.
      fingerprint: sha256 (hex) of tokenizer.json and the template.
    """

    def __init__(
        self,
        plain: tokenizers.Tokenizer,
        slotted: tokenizers.Tokenizer,
        *,
        folder: Path,
        chat_template: str | None,
        roles: Mapping[str, str],
        eos_ids: tuple[int, ...],
        pad_id: int,
        fingerprint: str,
    ):
        added = plain.get_added_tokens_decoder()
        special = {i: token for i, token in added.items() if token.special}
        self.eos_ids = eos_ids
        self.pad_id = pad_id
        self.bos_id = plain.token_to_id(roles.get("bos_token", ""))
        self.vocab_size: int = max(plain.get_vocab(with_added_tokens=True).values()) + 1
        self.special_tokens = {token.content: i for i, token in special.items()}
        self.byte_values = _byte_values(plain)
        self.chat_template = chat_template
        self.fingerprint = fingerprint
        self._plain, self._slotted = plain, slotted
        self._folder, self._roles = folder, dict(roles)
        self._template = (
            None
            if chat_template is None
            else template.compile(chat_template, where=str(folder))
        )
        self._special = _pattern([(t.content, "", "") for t in special.values()])
        # As the library matches them: some swallow the blanks beside them.
        self._written = _pattern(
            [
                (t.content, r"\s*" if t.lstrip else "", r"\s*" if t.rstrip else "")
                for t in special.values()
            ]
        )

    def encode(self, text: str) -> list[int]:
        """Ids of plain text: special tokens in it are spelled out, none is added."""
        return self._plain.encode(_valid(text), add_special_tokens=False).ids

    def sentence_ids(self, text: str) -> list[int]:
        """Ids with what the tokenizer puts around one text ([CLS] ... [SEP])."""
        return self._plain.encode(_valid(text), add_special_tokens=True).ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; special tokens are left out."""
        return self._plain.decode(list(ids), skip_special_tokens=True)

    def render(self, messages: Messages, add_generation_prompt: bool = True) -> str:
        """The conversation as text, by the chat template."""
        return self._render([_pair(m) for m in messages], add_generation_prompt)

    def prompt_ids(
        self, messages: Messages, add_generation_prompt: bool = True
    ) -> list[int]:
        """Ids of the rendered conversation.

        Special tokens are those that the template writes. Where a message holds the
        text of one, it is encoded as text; elsewhere the ids are those of
        transformers' `apply_chat_template`.

        Raises:
          ValueError: no template, a template that refuses the messages, or a message
            that holds a noncharacter or a lone surrogate.
        """
        quoted: list[str] = []

        def quote(match: re.Match[str]) -> str:
            quoted.append(match.group())
            return f"{_QUOTE}{len(quoted) - 1}{_QUOTE}"

        turns = []
        for number, (role, content) in enumerate(map(_pair, messages)):
            if _SLOT in content or _QUOTE in content:
                raise ValueError(
                    f"message {number} holds U+FDD0 or U+FDD1, which are not "
                    "characters; remove them"
                )
            turns.append((role, self._special.sub(quote, _valid(content))))
        text = self._render(turns, add_generation_prompt)

        # Order matters: first the template's tokens become slots, then the quotes
        # become text again, so the two cannot be confused.
        written: list[int] = []

        def slot(match: re.Match[str]) -> str:
            written.append(self.special_tokens[match[match.lastindex or 0]])
            return _SLOT

        text = self._written.sub(slot, text)
        text = re.sub(
            f"{_QUOTE}([0-9]+){_QUOTE}", lambda m: quoted[int(m.group(1))], text
        )
        # By text, not by id: where the vocabulary has holes, the library gives an
        # added token an id that another token has.
        encoded = self._slotted.encode(text, add_special_tokens=False)
        pairs = list(zip(encoded.tokens, encoded.ids, strict=True))
        slots = sum(token == _SLOT for token, _ in pairs)
        assert slots == len(written), "a slot was lost"
        filled = iter(written)
        return [next(filled) if token == _SLOT else i for token, i in pairs]

    def _render(self, turns: list[tuple[str, str]], add_generation_prompt: bool) -> str:
        if self._template is None:
            raise ValueError(
                f"{self._folder}: tokenizer_config.json has no chat_template; use an "
                "instruct model, or add the template to that file"
            )
        return template.render(
            self._template,
            turns,
            add_generation_prompt=add_generation_prompt,
            tokens=self._roles,
            where=str(self._folder),
        )


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """The tokenizer of a Hugging Face folder.

    Reads tokenizer.json; a folder that has only a sentencepiece model or a vocabulary
    file is converted by transformers (slow to import).

    Raises:
      ValueError: a file is missing or damaged, an id does not fit the model's
        embedding, or a chat model has no end token; names the file and the remedy.
    """
    folder = Path(folder)
    text = _tokenizer_json(folder)
    plain, slotted = _parse(text, folder), _parse(text, folder)
    plain.encode_special_tokens = True
    slotted.encode_special_tokens = True
    slotted.add_tokens([tokenizers.AddedToken(_SLOT, normalized=False)])
    settings = _optional(folder / "tokenizer_config.json")
    roles = _roles({**_optional(folder / "special_tokens_map.json"), **settings})
    chat_template = _chat_template(folder, settings)
    config = _optional(folder / "config.json")
    _check_ids(plain, config, folder)
    generation = _optional(folder / "generation_config.json")
    eos_ids = _eos_ids(plain, roles, chat_template, generation, config)
    if chat_template is not None and not eos_ids:
        raise ValueError(
            f"{folder}: no end token; set eos_token in tokenizer_config.json or "
            "eos_token_id in generation_config.json"
        )
    pad_id = plain.token_to_id(roles.get("pad_token", ""))
    if pad_id is None:
        pad_id = eos_ids[0] if eos_ids else 0
    digest = hashlib.sha256(text.encode())
    digest.update(b"\0" + (chat_template or "").encode())
    return Tokenizer(
        plain,
        slotted,
        folder=folder,
        chat_template=chat_template,
        roles=roles,
        eos_ids=eos_ids,
        pad_id=pad_id,
        fingerprint=digest.hexdigest(),
    )


def _tokenizer_json(folder: Path) -> str:
    path = folder / "tokenizer.json"
    if path.is_file():
        if path.stat().st_size > MAX_TOKENIZER:
            raise ValueError(f"{path}: over {MAX_TOKENIZER} bytes; refused")
        try:
            return path.read_text("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: not UTF-8 at byte {error.start}") from error
    if not any((folder / name).is_file() for name in SLOW):
        raise ValueError(
            f"{folder}: no tokenizer.json and none of {', '.join(SLOW)}; copy the "
            "tokenizer files of the model into this folder"
        )
    from transformers import AutoTokenizer

    loaded: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return loaded.backend_tokenizer.to_str()


def _parse(text: str, folder: Path) -> tokenizers.Tokenizer:
    try:
        parsed = tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # the library raises nothing more specific
        raise ValueError(
            f"{folder / 'tokenizer.json'}: not a tokenizer ({error}); download it again"
        ) from error
    parsed.no_padding()
    parsed.no_truncation()
    return parsed


def _check_ids(
    plain: tokenizers.Tokenizer, config: Mapping[str, Any], folder: Path
) -> None:
    rows = config.get("vocab_size")
    vocab = plain.get_vocab(with_added_tokens=True)
    if not vocab:
        raise ValueError(f"{folder / 'tokenizer.json'}: the vocabulary is empty")
    token = max(vocab, key=vocab.__getitem__)
    if isinstance(rows, int) and vocab[token] >= rows:
        raise ValueError(
            f"{folder}: wrong tokenizer: token {token!r:.60} has id {vocab[token]}, "
            f"but config.json says vocab_size {rows}; take tokenizer.json and "
            "config.json from the same model"
        )


def _eos_ids(
    plain: tokenizers.Tokenizer,
    roles: Mapping[str, str],
    chat_template: str | None,
    *configs: Mapping[str, Any],
) -> tuple[int, ...]:
    names = [name for name in TURN_ENDS if name in (chat_template or "")]
    named = [plain.token_to_id(name) for name in [*names, roles.get("eos_token", "")]]
    found = [i for i in named if i is not None]
    for config in configs:
        value = config.get("eos_token_id")
        found += value if isinstance(value, list) else [value]
    return tuple(dict.fromkeys(i for i in found if isinstance(i, int)))


def _chat_template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    """chat_template.jinja wins over tokenizer_config.json, as in transformers."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text("utf-8")
    value = settings.get("chat_template")
    if isinstance(value, list):  # several by name
        named = [each for each in value if isinstance(each, dict)]
        value = {each.get("name"): each.get("template") for each in named}
        value = value.get("default")
    if value is not None and not isinstance(value, str):
        raise ValueError(
            f"{folder / 'tokenizer_config.json'}: chat_template should be text, found "
            f"{type(value).__name__}"
        )
    return value


def _roles(settings: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    for role in _ROLES:
        value = settings.get(role)
        value = value.get("content") if isinstance(value, dict) else value
        if isinstance(value, str):
            found[role] = value
    return found


def _optional(path: Path) -> dict[str, Any]:
    return json_file.read(path, limit=MAX_TOKENIZER) if path.is_file() else {}


def _byte_values(tokenizer: tokenizers.Tokenizer) -> dict[int, int]:
    if '"ByteFallback"' not in tokenizer.to_str():
        return {}
    found = {
        index: re.fullmatch("<0x([0-9A-Fa-f]{2})>", token)
        for token, index in tokenizer.get_vocab().items()
    }
    return {index: int(match[1], 16) for index, match in found.items() if match}


def _pattern(tokens: Iterable[tuple[str, str, str]]) -> re.Pattern[str]:
    """Matches any (content, before, after), the longest content first.

    The group that took part in the match holds the content alone.
    """
    longest = sorted(tokens, key=lambda token: -len(token[0]))
    parts = [f"{before}({re.escape(text)}){after}" for text, before, after in longest]
    return re.compile("|".join(parts) or "(?!)")


def _pair(message: Turn | Mapping[str, str]) -> tuple[str, str]:
    if isinstance(message, Mapping):
        return message["role"], message["content"]
    return message.role, message.content


def _valid(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"invalid Unicode (lone surrogate) at character {error.start}"
        ) from error
    return text
