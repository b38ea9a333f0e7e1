# SPDX-License-Identifier: Apache-2.0
"""Store: every sample that was paid for, in one sqlite file, exactly once.

Samples are keyed by what decides them (engine fingerprint, messages, settings,
seed, sample number), so a killed run goes on where it was, and a run with another
configuration reuses what it shares with an earlier one. Nothing is ever deleted.
"""

import errno
import json
import sqlite3
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from data_gen.embed import Embedder
from data_gen.engines import Engine, Generate, Generation, request_id
from data_gen.records import canonical, digest

COMMIT_EVERY_S = 0.5
COMMIT_EVERY_ROWS = 16

_TABLES = """
CREATE TABLE IF NOT EXISTS requests (
  id TEXT PRIMARY KEY, request TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS generations (
  request TEXT NOT NULL, sample INTEGER NOT NULL, text TEXT NOT NULL,
  token_ids TEXT NOT NULL, finish_reason TEXT NOT NULL, sum_logprob REAL NOT NULL,
  PRIMARY KEY (request, sample)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS embeddings (
  id TEXT PRIMARY KEY, rows INTEGER NOT NULL, vectors BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sessions (
  id INTEGER PRIMARY KEY, samples INTEGER NOT NULL, tokens INTEGER NOT NULL,
  wall_s REAL NOT NULL);
"""


class Store:
    """The sqlite file of a run; use it in a `with` block, from one process.

    `new_samples` and `new_tokens` count what this process added.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._rows = 0
        self._clock = self._started = time.monotonic()
        self._session: int | None = None
        self.new_samples = self.new_tokens = self._told = 0
        with self._explained():
            self._db = sqlite3.connect(path, isolation_level="DEFERRED")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(_TABLES)

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *exception: object) -> None:
        """Commit what is there, whatever ended the block, and close."""
        try:
            self.commit()
        finally:
            self._db.close()

    def samples(self, request: str) -> dict[int, Generation]:
        """What is known of a request (see `request_id`), by sample number."""
        rows = self._db.execute(
            "SELECT sample, text, token_ids, finish_reason, sum_logprob "
            "FROM generations WHERE request = ? ORDER BY sample",
            (request,),
        )
        return {
            row[0]: Generation("", row[0], row[1], tuple(json.loads(row[2])), *row[3:])
            for row in rows
        }

    def add(self, request: str, asked: Generate, generation: Generation) -> None:
        """Keep one sample; a second one of the same number is ignored."""
        asked_for = {
            "messages": [asdict(message) for message in asked.messages],
            "settings": asdict(asked.settings),
            "seed": asked.seed,
        }
        with self._explained():
            self._db.execute(
                "INSERT OR IGNORE INTO requests VALUES (?, ?)",
                (request, canonical(asked_for)),
            )
            self._db.execute(
                "INSERT OR IGNORE INTO generations VALUES (?, ?, ?, ?, ?, ?)",
                (
                    request,
                    generation.sample,
                    generation.text,
                    json.dumps(generation.token_ids),
                    generation.finish_reason,
                    generation.sum_logprob,
                ),
            )
        self.new_samples += 1
        self.new_tokens += len(generation.token_ids)
        self._wrote()

    def vectors(self, key: str) -> np.ndarray | None:
        """Embeddings stored under `key`: float32 [rows, width]."""
        row = self._db.execute(
            "SELECT rows, vectors FROM embeddings WHERE id = ?", (key,)
        ).fetchone()
        if row is None:
            return None
        return np.frombuffer(row[1], np.float32).reshape(row[0], -1)

    def add_vectors(self, key: str, vectors: np.ndarray) -> None:
        """Keep float32 [rows, width] under `key`."""
        content = np.ascontiguousarray(vectors, np.float32).tobytes()
        with self._explained():
            self._db.execute(
                "INSERT OR IGNORE INTO embeddings VALUES (?, ?, ?)",
                (key, len(vectors), content),
            )
        self._wrote()

    def effort(self) -> dict[str, float]:
        """Samples, tokens and seconds over all sessions that worked on this file."""
        samples, tokens, wall_s = self._db.execute(
            "SELECT coalesce(sum(samples), 0), coalesce(sum(tokens), 0), "
            "coalesce(sum(wall_s), 0) FROM sessions"
        ).fetchone()
        return {"samples": samples, "tokens": tokens, "wall_s": wall_s}

    def commit(self) -> None:
        """Make everything so far survive a kill."""
        with self._explained():
            if self.new_samples > self._told:
                self._told = self.new_samples
                row = (
                    self.new_samples,
                    self.new_tokens,
                    time.monotonic() - self._started,
                )
                if self._session is None:
                    self._session = self._db.execute(
                        "INSERT INTO sessions (samples, tokens, wall_s) "
                        "VALUES (?, ?, ?)",
                        row,
                    ).lastrowid
                else:
                    self._db.execute(
                        "UPDATE sessions SET samples = ?, tokens = ?, wall_s = ? "
                        "WHERE id = ?",
                        (*row, self._session),
                    )
            self._db.commit()
        self._rows = 0
        self._clock = time.monotonic()

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

        A request of which some samples are missing goes to the inner engine whole
        (its samples share one prompt computation); the known ones are not replaced.
        """
        incoming = iter(requests)
        known: deque[Generation] = deque()
        asked: dict[str, _Asked] = {}  # by the key that went to the inner engine
        by_name: dict[str, _Asked] = {}
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
                known.extend(
                    replace(found[sample], key=request.key)
                    for sample in range(request.n)
                    if sample in found
                )
                if all(sample in found for sample in range(request.n)):
                    continue
                running = by_name.get(name)
                if running is not None and request.n <= running.request.n:
                    running.waiting.append((request, set(found)))
                    continue
                asked[request.key] = by_name[name] = _Asked(
                    name, request, request.n, [(request, set(found))]
                )
                yield request
            is_open = False

        while is_open:
            for generation in self._inner.generate(missing()):
                running = asked[generation.key]
                self._store.add(running.name, running.request, generation)
                for request, found in running.waiting:
                    if generation.sample < request.n and generation.sample not in found:
                        known.append(replace(generation, key=request.key))
                running.missing -= 1
                if not running.missing:
                    del asked[generation.key]
                    if by_name[running.name] is running:
                        del by_name[running.name]
                while known:
                    yield known.popleft()
            while known:
                yield known.popleft()
        self._store.commit()


@dataclass
class _Asked:
    """A request at the inner engine, and who waits for which of its samples: those
    that were not known when they asked."""

    name: str
    request: Generate
    missing: int
    waiting: list[tuple[Generate, set[int]]]


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
