# SPDX-License-Identifier: Apache-2.0
"""Configs: what is read, what is refused, and in which words."""

import dataclasses
import enum
import hashlib
from typing import Any, Literal

import pytest

from alignjax import config


class Precision(enum.StrEnum):
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


@dataclasses.dataclass(frozen=True)
class LossConfig:
    name: Literal["dpo", "simpo"]
    beta: float = 0.1

    def __post_init__(self) -> None:
        if self.beta <= 0:
            raise ValueError(f"beta must be > 0, got {self.beta}")


@dataclasses.dataclass(frozen=True)
class StageConfig:
    name: str
    steps: int = 1


@dataclasses.dataclass(frozen=True)
class RunConfig:
    loss: LossConfig
    steps: int
    lr: float = 1e-5
    resume: bool = True
    precision: Precision = Precision.FLOAT32
    adapter: str | None = None
    clip: float | None = None
    seed: int | str = 0
    betas: tuple[float, float] = (0.9, 0.999)
    stop: tuple[str, ...] = ()
    stages: tuple[StageConfig, ...] = ()
    draft: StageConfig | None = None
    weights: dict[str, float] = dataclasses.field(default_factory=dict)
    limits: dict[str, float | int | str] = dataclasses.field(default_factory=dict)
    extra: Any = None


@pytest.fixture
def write(tmp_path):
    def write(text: str | bytes):
        path = tmp_path / "run.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


SMALLEST = "steps: 3\nloss: {name: dpo}\n"


def test_every_supported_type_is_read(write):
    path = write("""
steps: 1_000
lr: 1e-5
resume: false
precision: bfloat16
adapter: runs/a
clip: 1
seed: "7"
betas: [0.9, 1]
stop: ["\\n", no, 2020-01-01]
stages:
  - name: one
  - {name: two, steps: 5}
draft: {name: small}
weights: {ecd: 1, self_contrast: 0.5}
limits: {a: 1, b: 1.5, c: x}
extra: [1, {deep: true}]
loss:
  name: simpo
  beta: 2
""")
    loaded = config.load(RunConfig, path)
    assert loaded == RunConfig(
        loss=LossConfig("simpo", 2.0),
        steps=1000,
        lr=0.00001,
        resume=False,
        precision=Precision.BFLOAT16,
        adapter="runs/a",
        clip=1.0,
        seed="7",
        betas=(0.9, 1.0),
        stop=("\n", "no", "2020-01-01"),
        stages=(StageConfig("one"), StageConfig("two", 5)),
        draft=StageConfig("small"),
        weights={"ecd": 1.0, "self_contrast": 0.5},
        limits={"a": 1, "b": 1.5, "c": "x"},
        extra=[1, {"deep": True}],
    )
    assert isinstance(loaded.clip, float)
    assert isinstance(loaded.limits["a"], int)


def test_unknown_key_names_the_class_the_nearest_field_and_all_fields(write):
    path = write("steps: 3\nloss: {name: dpo, betta: 0.1}\n")
    with pytest.raises(ValueError) as error:
        config.load(RunConfig, path)
    assert str(error.value) == (
        f"{path}: LossConfig has no field 'betta'; did you mean 'beta'? "
        "(fields: name, beta) at loss"
    )


def test_duplicate_key_names_both_lines(write):
    path = write("steps: 3\nloss: {name: dpo}\nsteps: 4\n")
    with pytest.raises(ValueError) as error:
        config.load(RunConfig, path)
    assert str(error.value) == f"{path}:3:1: duplicate key 'steps' (first on line 1)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("loss: {name: dpo}", "run.yaml: RunConfig needs the field steps"),
        ("{}", "run.yaml: RunConfig needs the fields loss, steps"),
        ("", "run.yaml: RunConfig needs the fields loss, steps"),
        ("steps: 3\nloss: {}", "run.yaml: loss: LossConfig needs the field name"),
        (SMALLEST + "lr: fast", "lr: expected float, got str 'fast'"),
        (SMALLEST + "lr: true", "lr: expected float, got bool True"),
        (SMALLEST + "lr: .nan", "lr: expected a float, got NaN"),
        (SMALLEST + "lr: 1e999", "3:5: 1e999 is too large for a float"),
        (SMALLEST + "resume: 1", "resume: expected bool, got int 1"),
        (SMALLEST + "resume: yes", "resume: expected bool, got str 'yes'"),
        (SMALLEST + "adapter: 3", "adapter: expected str, got int 3; quote it?"),
        (SMALLEST + "draft: x", "draft: expected the fields of StageConfig, got str"),
        (SMALLEST + "seed: 1.5", "seed: expected int or str, got float 1.5"),
        (SMALLEST + "betas: [0.9]", "betas: expected 2 items, got 1"),
        (SMALLEST + "stop: x", "stop: expected tuple[str, ...], got str 'x'"),
        (SMALLEST + "stop: [a, 1]", "stop.1: expected str, got int 1"),
        (SMALLEST + "stages: [{name: 1}]", "stages.0.name: expected str, got int 1"),
        (SMALLEST + "weights: {a: x}", "weights.a: expected float, got str 'x'"),
        (SMALLEST + "weights: {1: 2.0}", "a key must be a string: quote it"),
        (SMALLEST + "precision: fp8", "expected 'float32' or 'bfloat16', got str"),
        ("steps: 3.0\nloss: {name: dpo}", "steps: expected int, got float 3.0"),
        ("steps: 010\nloss: {name: dpo}", "steps: expected int, got str '010'"),
        ("steps: 3\nloss: {name: ppo}", "loss.name: expected 'dpo' or 'simpo', got"),
        ("steps: 3\nloss:", "loss: expected the fields of LossConfig, got null"),
        ("- a", "run.yaml: expected a mapping of fields, got list ['a']"),
        ("steps: [", "run.yaml:1:9: expected the node content"),
        ("a: &x 1\nb: *x", "2:4: aliases are not supported"),
        ("a: !!python/name:os.system x", "1:4: tags are not supported"),
        ("steps: 3\n---\nsteps: 4", "run.yaml:2:1: but found another document"),
        ("steps: " + "9" * 5000, "1:8: a number of 5000 digits"),
        ("a: " + "[" * 5000, "nested too deeply"),
        (b"steps: 3\nname: \xff", "run.yaml:2: not UTF-8"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place_and_the_reason(write, text, message):
    with pytest.raises(ValueError) as error:
        config.load(RunConfig, write(text))
    assert message in str(error.value)
    assert "run.yaml" in str(error.value)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"absent\.yaml: no such config file"):
        config.load(RunConfig, tmp_path / "absent.yaml")


def test_post_init_error_gets_the_file_and_the_field(write):
    path = write("steps: 3\nloss: {name: dpo, beta: -1}\n")
    with pytest.raises(ValueError) as error:
        config.load(RunConfig, path)
    assert str(error.value) == f"{path}: loss: beta must be > 0, got -1.0"


def test_overrides_are_applied_in_order_and_make_missing_sections(write):
    path = write(SMALLEST + "stages: [{name: one}]\n")
    overrides = ["lr=1e-4", "lr=2e-4", "draft.name=tiny", "stages.0.steps=9"]
    loaded = config.load(RunConfig, path, overrides)
    assert loaded.lr == 0.0002
    assert loaded.draft == StageConfig("tiny")
    assert loaded.stages == (StageConfig("one", 9),)


def test_nothing_after_the_sign_is_the_empty_text(write):
    path = write(SMALLEST + "draft: {name: big}\n")
    loaded = config.load(RunConfig, path, ["draft.name=", "adapter="])
    assert (loaded.draft, loaded.adapter) == (StageConfig(""), "")
    assert config.load(RunConfig, path, ["draft=null"]).draft is None
    with pytest.raises(ValueError, match="override 'lr=': lr: expected float, got str"):
        config.load(RunConfig, path, ["lr="])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("lr", "override 'lr': expected field=value (section.field=value for a"),
        ("=3", "override '=3': expected field=value"),
        ("loss..beta=3", "override 'loss..beta=3': expected field=value"),
        ("lr=fast", "override 'lr=fast': lr: expected float, got str 'fast'"),
        ("lrr=1", "override 'lrr=1': RunConfig has no field 'lrr'; did you mean 'lr'?"),
        ("lr=[", "override 'lr=['"),
        ("steps.x=1", "override 'steps.x=1': there is no 'x' in int 3"),
        ("stages.1.name=x", "there is no '1' in list [{'name': 'one'}]"),
    ],
)
def test_a_wrong_override_is_named_instead_of_the_file(write, override, message):
    path = write(SMALLEST + "stages: [{name: one}]\n")
    with pytest.raises(ValueError) as error:
        config.load(RunConfig, path, [override])
    assert message in str(error.value)
    assert "run.yaml" not in str(error.value)


def test_post_init_error_names_the_overrides_of_its_section(write):
    path = write(SMALLEST)
    with pytest.raises(ValueError) as error:
        config.load(RunConfig, path, ["lr=1e-4", "loss.beta=0"])
    assert str(error.value) == (
        f"{path} with override 'loss.beta=0': loss: beta must be > 0, got 0.0"
    )


def test_dump_shows_the_defaults_and_reads_back_equal(write):
    original = RunConfig(
        loss=LossConfig("dpo"),
        steps=3,
        lr=1e-5,
        clip=float("inf"),
        seed="1e-5",
        stop=("no", "1e5", "null", "é\u2028", "", "1:30", "# x", "a: b"),
        limits={"1": "0o7", "true": 1.0},
    )
    text = config.dump(original)
    assert "beta: 0.1" in text
    assert config.load(RunConfig, write(text)) == original


def test_digest_depends_on_values_not_on_spelling(write):
    short = config.load(RunConfig, write(SMALLEST))
    spelled = config.load(
        RunConfig, write("loss: {beta: 0.1, name: dpo}\nlr: 0.00001\nsteps: 3\n")
    )
    assert config.digest(short) == config.digest(spelled)
    changed = dataclasses.replace(short, steps=4)
    assert config.digest(short) != config.digest(changed)


def test_digest_is_the_sha256_of_canonical_json():
    expected = hashlib.sha256(b'{"name":"a","steps":1}').hexdigest()
    assert config.digest(StageConfig("a")) == expected


def test_int_and_float_spelling_of_a_float_field_have_one_digest():
    """Written 2 or 2.0, a float field holds 2.0."""
    digests = {
        config.digest(config.parse(LossConfig, {"name": "dpo", "beta": beta}))
        for beta in (2, 2.0)
    }
    assert len(digests) == 1


def test_parse_names_the_given_place():
    with pytest.raises(ValueError, match=r"checkpoint 3: steps: expected int"):
        config.parse(StageConfig, {"name": "a", "steps": "b"}, where="checkpoint 3")


def test_plain_is_read_back_by_parse():
    original = RunConfig(loss=LossConfig("dpo"), steps=1, stages=(StageConfig("a"),))
    assert config.parse(RunConfig, config.plain(original)) == original


def test_an_unsupported_annotation_is_our_bug_not_the_users():
    @dataclasses.dataclass(frozen=True)
    class Odd:
        value: complex

    with pytest.raises(TypeError, match="complex"):
        config.parse(Odd, {"value": 1})


@dataclasses.dataclass(frozen=True)
class Local:
    path: str
    slots: int = 4


@dataclasses.dataclass(frozen=True)
class Remote:
    url: str
    kind: Literal["remote", "hosted"] = "remote"
    headers: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Recorded:
    file: str
    kind: Literal["recorded"] = "recorded"


@dataclasses.dataclass(frozen=True)
class Engines:
    engine: Local | Remote = Local("m")
    engines: dict[str, Remote | Recorded] = dataclasses.field(default_factory=dict)
    spare: Remote | Recorded | None = None


def test_sections_of_a_union_are_told_apart_by_their_kind(write):
    path = write("""
engine: {kind: hosted, url: u}
engines:
  a: {kind: remote, url: v, headers: {x: y}}
  b: {kind: recorded, file: f}
spare: null
""")
    loaded = config.load(Engines, path, ["engines.a.url=w", "engines.b.file=g"])
    assert loaded.engine == Remote("u", "hosted")
    assert loaded.engines == {
        "a": Remote("w", "remote", {"x": "y"}),
        "b": Recorded("g"),
    }
    assert config.parse(Engines, config.plain(loaded)) == loaded
    added = [
        "engines.c.kind=recorded",
        "engines.c.file=h",
        "spare={kind: remote, url: x}",
    ]
    more = config.load(Engines, path, added)
    assert (more.engines["c"], more.spare) == (Recorded("h"), Remote("x"))


def test_a_section_without_a_kind_is_the_one_that_has_none(write):
    loaded = config.load(Engines, write("engine: {path: n, slots: 8}"))
    assert loaded.engine == Local("n", 8)
    assert config.load(Engines, write(""), ["engine.path=o"]).engine == Local("o")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("engine: {url: u}", "Local has no field 'url'"),
        (
            "engine: {kind: local, path: p}",
            "engine.kind: expected 'remote' or 'hosted', got str 'local'",
        ),
        (
            "engines: {a: {file: f}}",
            "engines.a: needs the field kind: 'remote' or 'hosted' or 'recorded'",
        ),
        ("engines: {a: {kind: [], file: f}}", "engines.a.kind: expected 'remote' or"),
        (
            "engines: {a: {kind: null, file: f}}",
            "engines.a.kind: expected .*, got null",
        ),
        ("engines: {a: {kind: recorded, url: u}}", "Recorded has no field 'url'"),
        ("engines: {a: {kind: recorded}}", "engines.a: Recorded needs the field file"),
        (
            "engines: {a: f}",
            "engines.a: expected the fields of Remote or the fields of",
        ),
        ("engines: [a]", "engines: expected dict"),
    ],
)
def test_a_section_of_no_kind_is_refused(write, text, message):
    with pytest.raises(ValueError, match=message):
        config.load(Engines, write(text))
