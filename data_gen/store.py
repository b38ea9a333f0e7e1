# SPDX-License-Identifier: Apache-2.0
"""Store: every sample that was paid for, in one sqlite file, exactly once.

Samples are keyed by what decides them (engine fingerprint, messages, settings,
seed, sample number), so a killed run goes on where it was, and a run with another
configuration reuses what it shares with an earlier one. Nothing is ever deleted.
"""

import errno
import json
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from data_gen.embed import Embedder
from data_gen.engines import Engine, Generate, Generation, Served, request_id
from data_gen.records import canonical, digest

COMMIT_EVERY_S = 0.5
COMMIT_EVERY_ROWS = 16

_TABLES = """
CREATE TABLE IF NOT EXISTS requests (
  id TEXT PRIMARY KEY, request TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS generations (
  request TEXT NOT NULL, sample INTEGER NOT NULL, text TEXT NOT NULL,
  token_ids TEXT NOT NULL, finish_reason TEXT NOT NULL, sum_logprob REAL, served TEXT,
  PRIMARY KEY (request, sample)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS embeddings (
  id TEXT PRIMARY KEY, rows INTEGER NOT NULL, vectors BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sessions (
  id INTEGER PRIMARY KEY, samples INTEGER NOT NULL, tokens INTEGER NOT NULL,
  wall_s REAL NOT NULL);
CREATE TABLE IF NOT EXISTS usage (
  session INTEGER NOT NULL, engine TEXT NOT NULL, usage TEXT NOT NULL,
  PRIMARY KEY (session, engine)) WITHOUT ROWID;
"""
# Files of before there were servers lack `served`, and want a sum_logprob.
_RENEWED = """
BEGIN IMMEDIATE;
ALTER TABLE generations RENAME TO earlier;
{tables}
INSERT INTO generations SELECT *, NULL FROM earlier;
DROP TABLE earlier;
COMMIT;
"""


@dataclass
class Usage:
    """What was asked of a server, for the samples that came of it."""

    samples: int = 0
    attempts: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    models: tuple[str, ...] = ()
    system_fingerprints: tuple[str, ...] = ()

    def plus(self, other: "Usage") -> "Usage":
        """Both together."""
        prints = {*self.system_fingerprints, *other.system_fingerprints}
        return Usage(
            self.samples + other.samples,
            self.attempts + other.attempts,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cost + other.cost,
            tuple(sorted({*self.models, *other.models} - {""})),
            tuple(sorted(prints - {""})),
        )

    @classmethod
    def of(cls, served: Served) -> "Usage":
        """That of one sample."""
        return cls(
            1,
            served.attempts,
            served.prompt_tokens,
            served.completion_tokens,
            served.cost,
            (served.model,),
            (served.system_fingerprint,),
        )


class Store:
    """The sqlite file of a run; use it in a `with` block, from one process. Its threads
    may share it.

    `new_samples` and `new_tokens` count what this process added.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._rows = 0
        self._clock = self._started = time.monotonic()
        self._session: int | None = None
        self._usage: dict[str, Usage] = {}
        self._lock = threading.RLock()
        self.new_samples = self.new_tokens = self._told = 0
        with self._explained():
            self._db = sqlite3.connect(
                path, isolation_level="DEFERRED", check_same_thread=False
            )
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(_TABLES)
            columns = self._db.execute("PRAGMA table_info(generations)").fetchall()
            if "served" not in [column[1] for column in columns]:
                self._db.executescript(_RENEWED.format(tables=_TABLES))

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *exception: object) -> None:
        """Commit what is there, whatever ended the block, and close."""
        with self._lock:
            try:
                self.commit()
            finally:
                self._db.close()

    def samples(self, request: str) -> dict[int, Generation]:
        """What is known of a request (see `request_id`), by sample number."""
        with self._lock:
            rows = self._db.execute(
                "SELECT sample, text, token_ids, finish_reason, sum_logprob, served "
                "FROM generations WHERE request = ? ORDER BY sample",
                (request,),
            ).fetchall()
        return {
            sample: Generation(
                key="",
                sample=sample,
                text=text,
                token_ids=tuple(json.loads(ids)),
                finish_reason=finish_reason,
                sum_logprob=sum_logprob,
                served=Served(**json.loads(served)) if served else None,
            )
            for sample, text, ids, finish_reason, sum_logprob, served in rows
        }

    def add(self, request: str, asked: Generate, generation: Generation) -> None:
        """Keep one sample; a second one of the same number is ignored. What a server
        gave is paid for, and committed at once."""
        served = generation.served
        asked_for = {
            "messages": [asdict(message) for message in asked.messages],
            "settings": asdict(asked.settings),
            "seed": asked.seed,
        }
        with self._lock, self._explained():
            self._db.execute(
                "INSERT OR IGNORE INTO requests VALUES (?, ?)",
                (request, canonical(asked_for)),
            )
            self._db.execute(
                "INSERT OR IGNORE INTO generations VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    request,
                    generation.sample,
                    generation.text,
                    json.dumps(generation.token_ids),
                    generation.finish_reason,
                    generation.sum_logprob,
                    canonical(asdict(served)) if served else None,
                ),
            )
            self.new_samples += 1
            self.new_tokens += generation.tokens
            if served:
                before = self._usage.get(asked.engine, Usage())
                self._usage[asked.engine] = before.plus(Usage.of(served))
                self.commit()
            else:
                self._wrote()

    def vectors(self, key: str) -> np.ndarray | None:
        """Embeddings stored under `key`: float32 [rows, width]."""
        with self._lock:
            row = self._db.execute(
                "SELECT rows, vectors FROM embeddings WHERE id = ?", (key,)
            ).fetchone()
        if row is None:
            return None
        return np.frombuffer(row[1], np.float32).reshape(row[0], -1)

    def add_vectors(self, key: str, vectors: np.ndarray) -> None:
        """Keep float32 [rows, width] under `key`."""
        content = np.ascontiguousarray(vectors, np.float32).tobytes()
        with self._lock, self._explained():
            self._db.execute(
                "INSERT OR IGNORE INTO embeddings VALUES (?, ?, ?)",
                (key, len(vectors), content),
            )
            self._wrote()

    def effort(self) -> dict[str, float]:
        """Samples, tokens and seconds over all sessions that worked on this file."""
        with self._lock:
            samples, tokens, wall_s = self._db.execute(
                "SELECT coalesce(sum(samples), 0), coalesce(sum(tokens), 0), "
                "coalesce(sum(wall_s), 0) FROM sessions"
            ).fetchone()
        return {"samples": samples, "tokens": tokens, "wall_s": wall_s}

    def usage(self) -> dict[str, Usage]:
        """What servers did over all sessions, by the engine's name."""
        with self._lock:
            rows = self._db.execute(
                "SELECT engine, usage FROM usage ORDER BY engine, session"
            ).fetchall()
        found: dict[str, Usage] = {}
        for engine, text in rows:
            found[engine] = found.get(engine, Usage()).plus(Usage(**json.loads(text)))
        return found

    def commit(self) -> None:
        """Make everything so far survive a kill."""
        with self._lock, self._explained():
            if self.new_samples > self._told:
                self._told = self.new_samples
                self._note_session()
            self._db.commit()
            self._rows = 0
            self._clock = time.monotonic()

    def _note_session(self) -> None:
        row = (self.new_samples, self.new_tokens, time.monotonic() - self._started)
        if self._session is None:
            self._session = self._db.execute(
                "INSERT INTO sessions (samples, tokens, wall_s) VALUES (?, ?, ?)", row
            ).lastrowid
        else:
            self._db.execute(
                "UPDATE sessions SET samples = ?, tokens = ?, wall_s = ? WHERE id = ?",
                (*row, self._session),
            )
        self._db.executemany(
            "INSERT OR REPLACE INTO usage VALUES (?, ?, ?)",
            [
                (self._session, engine, canonical(asdict(usage)))
                for engine, usage in self._usage.items()
            ],
        )

    def _wrote(self) -> None:
        self._rows += 1
        late = time.monotonic() - self._clock > COMMIT_EVERY_S
        if late or self._rows >= COMMIT_EVERY_ROWS:
            self.commit()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """sqlite's own errors do not name the file; a full disk is an OSError."""
        try:
            yield
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                raise OSError(
                    errno.ENOSPC,
                    "no space left; the samples so far are kept, free some space and "
                    "run the same command again",
                    str(self.path),
                ) from error
            raise OSError(errno.EIO, str(error), str(self.path)) from error


class StoredEngine:
    """An engine that answers from the store and asks `inner` for the rest."""

    def __init__(self, inner: Engine, store: Store) -> None:
        self._inner, self._store = inner, store
        self.fingerprint: str = inner.fingerprint
        self.facts: Mapping[str, str] = inner.facts

    def generate(self, requests: Iterable[Generate | None]) -> Iterator[Generation]:
        """Known samples and new ones, the new ones stored before they are given out.

        The inner engine is asked for a sample once, whoever else asks for it too.
        """
        incoming = iter(requests)
        known: deque[Generation] = deque()
        asked: dict[str, _Asked] = {}  # by the key that went to the inner engine
        waiting: dict[tuple[str, int], list[str]] = {}  # (name, sample): keys
        is_open = True

        def missing() -> Iterator[Generate | None]:
            """What the store lacks; ends, for now, when only known samples can lead
            to more requests."""
            nonlocal is_open
            for request in incoming:
                if request is None:
                    if not asked:
                        return
                    yield None
                    continue
                name = request_id(request, self.fingerprint)
                found = self._store.samples(name)
                lacking = []
                for sample in request.wanted:
                    if sample in found:
                        known.append(replace(found[sample], key=request.key))
                    elif (name, sample) in waiting:
                        waiting[name, sample].append(request.key)
                    else:
                        waiting[name, sample] = [request.key]
                        lacking.append(sample)
                if lacking:
                    asked[request.key] = _Asked(name, request, len(lacking))
                    others = frozenset(range(request.n)) - frozenset(lacking)
                    yield replace(request, known=others)
            is_open = False

        while is_open:
            for generation in self._inner.generate(missing()):
                running = asked[generation.key]
                self._store.add(running.name, running.request, generation)
                running.missing -= 1
                if not running.missing:
                    del asked[generation.key]
                for key in waiting.pop((running.name, generation.sample)):
                    known.append(replace(generation, key=key))
                while known:
                    yield known.popleft()
            while known:
                yield known.popleft()
        self._store.commit()


@dataclass
class _Asked:
    """A request at the inner engine, and how many of its samples are to come."""

    name: str
    request: Generate
    missing: int


class StoredEmbedder:
    """An embedder that remembers, one call at a time.

    A call is stored whole: on accelerators a vector may depend in its last bit on the
    texts beside it, and a resumed run must see what the first one saw.
    """

    def __init__(self, inner: Embedder, store: Store) -> None:
        self._inner, self._store = inner, store
        self.fingerprint: str = inner.fingerprint

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        key = digest([self.fingerprint, list(texts)])
        vectors = self._store.vectors(key)
        if vectors is None:
            vectors = np.asarray(self._inner(texts), np.float32)
            self._store.add_vectors(key, vectors)
        return vectors
