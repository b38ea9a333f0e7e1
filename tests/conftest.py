# SPDX-License-Identifier: Apache-2.0
"""Test settings: CPU unless told otherwise, shapes checked, compilations kept."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
import safetensors.numpy
import tokenizers

from tiny_models import LLAMA, llama_shapes

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
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # Started in the background of a script: what tests start would inherit it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.pluginmanager.hasplugin("cacheprovider") and config.cache is not None:
        folder = config.cache.mkdir("jax")
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder))


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root folder."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """$ALIGNJAX_HOME of the commands that tests start; it keeps what they compile."""
    compiled = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    return Path(compiled) / "home" if compiled else tmp_path_factory.mktemp("home")


_HOLDER = """
import sys, time
from pathlib import Path
from alignjax import lock
with lock.held(Path(sys.argv[1]), what="run"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def hold_lock(root: Path) -> Iterator[Callable[[Path], "subprocess.Popen[str]"]]:
    """Starts a process that holds the lock of a folder until it is killed."""
    started = []

    def hold(folder: Path) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-c", _HOLDER, str(folder)],
            cwd=root,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield hold
    for process in started:
        with process:
            process.kill()


@pytest.fixture(scope="session")
def on_eight_devices(root: Path) -> Callable[..., dict[str, Any]]:
    """Runs a program with eight virtual CPU devices; the object that it prints."""

    def run(program: Path, *words: str, is_optimised: bool = True) -> dict[str, Any]:
        flags = ["--xla_force_host_platform_device_count=8"]
        if not is_optimised:  # large programs that run once
            flags.append("--xla_backend_optimization_level=0")
        folders = [str(root), str(root / "tests" / "models")]
        given = filter(None, [os.environ.get("PYTHONPATH")])
        process = subprocess.run(
            [sys.executable, str(program), *words],
            env={
                **os.environ,
                "JAX_PLATFORMS": "cpu",
                "XLA_FLAGS": " ".join(flags),
                "PYTHONPATH": os.pathsep.join([*folders, *given]),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert process.returncode == 0, process.stderr
        return json.loads(process.stdout)

    return run


@pytest.fixture(scope="session")
def shared_data(root: Path) -> Path:
    """Real data sets beside the checkout; skips where there are none."""
    folder = root.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no ../shared/data beside the checkout")
    return folder


@pytest.fixture(scope="session")
def random_params() -> Callable[[Any], dict[str, Any]]:
    """Random parameters of a DecoderConfig, drawn by numpy: nothing is compiled.

    Embeddings are normal with variance 1, so that tokens differ and a leak of
    attention shows; the rest is as in `decoder.init`, with adapters that do something.
    """
    # Not at the top: JAX must not be imported before pytest_configure has run.
    import jax
    import jax.numpy as jnp

    from alignjax.models import decoder

    def make(config: Any, seed: int = 0) -> dict[str, Any]:
        rng = np.random.default_rng(seed)

        def draw(path: Any, leaf: jax.ShapeDtypeStruct) -> jax.Array:
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            value = rng.normal(size=leaf.shape)
            if name.endswith("norm/weight"):
                value = 1 + 0.1 * value
            elif name.startswith("blocks/"):
                value *= leaf.shape[-2] ** -0.5
            return jnp.asarray(value, leaf.dtype)

        return jax.tree_util.tree_map_with_path(draw, decoder.abstract(config))

    return make


# A model that babbles: each word is followed by one of a few others, and an answer
# ends after a dozen words or so. What it says is empty, but it is text.
_WORDS = {
    "\n": "The Every My",
    "The": "old small red",
    "Every": "old small red",
    "My": "old small red",
    "the": "old small red",
    "a": "old small red",
    "old": "cat tree house",
    "small": "cat tree house",
    "red": "cat tree house",
    "cat": "sees , .",
    "tree": "likes , .",
    "house": "needs , .",
    "sees": "the a",
    "likes": "the a",
    "needs": "the a",
    ",": "and but",
    "and": "the a",
    "but": "the a",
    ".": "<|im_end|> The <|im_end|>",
}
_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
_CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + "
    "message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of 2 layers, width 64, 256 positions, in Hugging Face's layout, with a
    byte-level tokenizer, a ChatML template, and one id for padding and end of turn."""
    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    folder.mkdir()
    vocabulary = _write_tokenizer(folder)
    _write_llama(folder, vocabulary)
    return folder


@pytest.fixture(scope="session")
def tiny_encoder(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The random BERT of tests/golden, with a tokenizer of single characters."""
    folder = tmp_path_factory.mktemp("models") / "tiny-encoder"
    shutil.copytree(root / "tests" / "golden" / "tiny_bert", folder)
    tokens = ["[UNK]", "[CLS]", "[SEP]", *map(chr, range(32, 127))]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    library = tokenizers.Tokenizer(
        tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]")
    )
    every = tokenizers.Regex(".")
    library.pre_tokenizer = tokenizers.pre_tokenizers.Split(every, "isolated")
    library.post_processor = tokenizers.processors.BertProcessing(
        ("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"])
    )
    library.save(str(folder / "tokenizer.json"))
    return folder


def _write_tokenizer(folder: Path) -> dict[str, int]:
    """Bytes, and each word of _WORDS with the blank before it; returns ids."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    merges: dict[tuple[str, str], None] = {}
    for word in _WORDS:
        if word.isalpha():
            text = f"Ġ{word}"
            merges |= {(text[:i], text[i]): None for i in range(1, len(text))}
    tokens = [*_SPECIAL, *alphabet, *map("".join, merges)]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    library = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, list(merges)))
    library.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = tokenizers.decoders.ByteLevel()
    library.add_special_tokens(
        [tokenizers.AddedToken(t, special=True, normalized=False) for t in _SPECIAL]
    )
    library.save(str(folder / "tokenizer.json"))
    settings = {
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|im_end|>",
        "chat_template": _CHATML,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return vocabulary


def _write_llama(folder: Path, vocabulary: dict[str, int]) -> None:
    width = LLAMA["hidden_size"]
    rng = np.random.default_rng(0)

    def normal(shape: tuple[int, ...], scale: float) -> np.ndarray:
        return scale * rng.normal(size=shape).astype(np.float32)

    embedding = normal((len(vocabulary), width), 1.0)
    unit = embedding / np.linalg.norm(embedding, axis=1, keepdims=True)
    head = normal((len(vocabulary), width), 0.02)
    for word, followers in _WORDS.items():
        for follower in followers.split():
            strength = 1.5 + 0.2 * rng.random()  # a score of 12 to 13.6
            head[_id(follower, vocabulary)] += strength * unit[_id(word, vocabulary)]
    tensors = {"model.embed_tokens.weight": embedding, "lm_head.weight": head}
    for name, shape in llama_shapes(len(vocabulary), is_tied=False).items():
        if len(shape) == 1:
            tensors[name] = np.ones(shape, np.float32)
        elif name not in tensors:
            is_last = name.endswith(("o_proj.weight", "down_proj.weight"))
            tensors[name] = normal(shape, 0.02 if is_last else 0.1)
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    config = {
        **LLAMA,
        "vocab_size": len(vocabulary),
        "tie_word_embeddings": False,
        "hidden_act": "silu",
    }
    (folder / "config.json").write_text(json.dumps(config))


def _id(word: str, vocabulary: dict[str, int]) -> int:
    byte_level = {"\n": "Ċ"}.get(word, word)
    return vocabulary.get(f"Ġ{byte_level}", vocabulary.get(byte_level, -1))
