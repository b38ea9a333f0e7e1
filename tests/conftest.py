# SPDX-License-Identifier: Apache-2.0
"""Test settings: CPU unless told otherwise, shapes checked, compilations kept."""

import os
from pathlib import Path

import jaxtyping
import pytest

# Environment variables that JAX reads when it is first imported, here and in the
# processes that tests start; what the caller has set stays.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

# Every annotated function of alignjax checks the shapes and types of its arguments;
# an int is a float, as in PEP 484.
jaxtyping.install_import_hook(
    ["alignjax"],
    "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))",
)


def pytest_configure(config: pytest.Config) -> None:
    """Keep compiled programs between runs, beside pytest's own cache."""
    if config.pluginmanager.hasplugin("cacheprovider") and config.cache is not None:
        folder = config.cache.mkdir("jax")
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder))


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root folder."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data(root: Path) -> Path:
    """Real data sets beside the checkout; skips where there are none."""
    folder = root.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no ../shared/data beside the checkout")
    return folder
