# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: Orbax on disk, with a checksum per leaf.

Orbax commits a step atomically but does not notice a bit that flips in a saved array,
so each step carries a sha256 per leaf, compared on restore. A step that does not
restore as it was saved is reported, and the one before it is taken.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from alignjax import sharding


class Checkpoints:
    """Owns a folder of checkpoints, one per step; keeps the newest `keep`."""

    def __init__(
        self, folder: str | Path, *, keep: int = 2, warn: Callable[[str], None] = print
    ):
        self.folder = Path(folder).absolute()
        self.warn = warn
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            enable_async_checkpointing=False,
            cleanup_tmp_directories=True,
        )
        self._manager = ocp.CheckpointManager(self.folder, options=options)

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._manager.close()

    def save(self, step: int, state: Any, *, about: dict[str, Any]) -> None:
        """Saves a pytree of arrays with what it is about (JSON), and waits for it.

        Steps at or after this one are removed: a run that saves again what it once
        had found those damaged. (Orbax would skip the save without a word.)

        Raises:
          OSError: the disk is full or not writable; earlier steps are untouched.
        """
        record = {"about": about, "sha256": checksums(state)}
        for later in self._manager.all_steps():
            if later >= step:
                self._manager.delete(later)
        try:
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state),
                    record=ocp.args.JsonSave(record),
                ),
            )
            self._manager.wait_until_finished()
        except ValueError as error:
            if "RESOURCE_EXHAUSTED" in str(error) or "No space left" in str(error):
                raise OSError(
                    f"{self.folder}: no room for the checkpoint of step {step}; "
                    "free some space and run the same command again"
                ) from error
            raise

    def restore(self, like: Any) -> tuple[int, Any, dict[str, Any]] | None:
        """The newest step that restores as it was saved.

        Args:
          like: a pytree of the same structure, shapes, dtypes and shardings.

        Returns:
          (step, state, about), or None where there is no checkpoint.

        Raises:
          ValueError: there are checkpoints, but none is intact.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        for step in steps:
            try:
                restored = self._manager.restore(
                    step,
                    args=ocp.args.Composite(
                        state=ocp.args.StandardRestore(abstract),
                        record=ocp.args.JsonRestore(),
                    ),
                )
                state, record = restored["state"], restored["record"]
                damaged = _difference(record["sha256"], checksums(state))
            except Exception as error:  # noqa: BLE001 - of many kinds, for many damages
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                where = self.folder / str(step)
                self.warn(f"checkpoint {where} is damaged: {reason[:200]}")
                continue
            if damaged is None:
                return step, state, record["about"]
            self.warn(
                f"checkpoint {self.folder / str(step)} is damaged: leaf {damaged} does "
                "not have the checksum it was saved with"
            )
        if steps:
            raise ValueError(
                f"{self.folder}: none of the checkpoints {steps} is intact; remove the "
                "folder to start over"
            )
        return None


def checksums(state: Any) -> dict[str, str]:
    """sha256 of each leaf's bytes, dtype and shape, by path."""
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        array = sharding.to_host(leaf)
        digest = hashlib.sha256(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
        found[jax.tree_util.keystr(path)] = digest.hexdigest()
    return found


def _difference(saved: dict[str, str], found: dict[str, str]) -> str | None:
    names = sorted(set(saved) | set(found))
    return next((name for name in names if saved.get(name) != found.get(name)), None)
