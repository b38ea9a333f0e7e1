# SPDX-License-Identifier: Apache-2.0
"""Package metadata: what is installed, what it needs, which commands it gives."""

import re
from collections.abc import Sequence
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(
    r'__version__ = "(.+)"', (ROOT / "alignjax/__init__.py").read_text()
)
assert VERSION, "alignjax/__init__.py has no __version__"

RUNTIME = [
    "jax>=0.10.2,!=0.11.0",
    "flax>=0.12.8,!=0.12.10",
    "optax>=0.2.8",
    "orbax-checkpoint>=0.12.4",
    "jaxtyping>=0.3.4",
    "numpy>=2.1",
    "ml_dtypes>=0.5",
    # weights, tokenizers, chat templates
    "transformers>=5,<6",
    "huggingface-hub>=1.0",
    "tokenizers>=0.22",
    "sentencepiece>=0.2.1",
    "safetensors>=0.6",
    "gguf>=0.17",
    "jinja2>=3.1.6",
    # data
    "datasets>=4.8",
    "pyarrow>=21",
    # constraints: JSON under a schema, language of a text
    "jsonschema>=4.23,<5",
    "py3langid>=0.4,<0.5",
    # evaluation: IFEval's own language identification
    "langdetect>=1.0.9",
    # servers that sample
    "httpx2>=2.0,<3",
    # config, command line, report
    "pyyaml>=6.0.2",
    "rich>=14.0",
    "matplotlib>=3.10",
]
TEST = [
    "beartype>=0.22",
    "chex>=0.1.91",
    "equinox>=0.13",
    "hypothesis>=6.140",
    "pytest>=9.0",
    "pytest-xdist>=3.8",
]
DEV = [
    *TEST,
    "build>=1.3",
    "pip-tools>=7.5",
    "pyright[nodejs]>=1.1.400",
    "ruff>=0.14",
    "setuptools>=77",
    "wheel>=0.45",
]


def configs() -> list[tuple[str, Sequence[str]]]:
    """The example runs, installed under share/alignjax/ of the environment."""
    folders: dict[str, list[str]] = {}
    for path in sorted((ROOT / "configs").rglob("*.yaml")):
        relative = path.relative_to(ROOT)
        target = f"share/alignjax/{relative.parent.as_posix()}"
        folders.setdefault(target, []).append(relative.as_posix())
    return list(folders.items())


setup(
    name="alignjax",
    version=VERSION.group(1),
    description="Preference data and preference training for JAX on GPU and TPU",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=find_packages(
        include=["alignjax", "alignjax.*", "data_gen", "data_gen.*"]
    ),
    package_data={
        "alignjax": ["**/*.html"],
        "data_gen": ["data/*.jsonl", "**/*.html"],
    },
    data_files=configs(),
    install_requires=RUNTIME,
    extras_require={
        "cuda12": ["jax[cuda12]"],
        "cuda13": ["jax[cuda13]"],
        "tpu": ["jax[tpu]"],
        "tb": ["tensorboardX>=2.6"],
        "wandb": ["wandb>=0.19"],
        "test": TEST,
        "dev": DEV,
    },
    entry_points={
        "console_scripts": [
            "alignjax = alignjax.cli:main",
            "data-gen = data_gen.cli:main",
        ]
    },
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
