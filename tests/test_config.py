from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitrail import config as configs
from vitrail.config import Size, config
from vitrail.errors import UserError


@config
class Inner:
    kind: Literal["gelu", "swiglu"] = "gelu"
    rate: Annotated[float, pydantic.Field(ge=0, lt=1)] = 0.1


@config
class Outer:
    size: Size = (8, 8)
    inner: Inner = Inner()
    maybe: Inner | None = None
    parts: tuple[Inner, ...] = ()
    names: tuple[str, ...] = ()
    text: str = "x"
    note: str | None = None
    count: int = 3


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    [
        "no",
        "null",
        "1e-3",
        "2024-01-01",
        "1:30",
        "~",
        "",
        " x ",
        "- a",
        "a: b",
        "#",
        "0x1f",
        "nan",
        "图",
        "\x85",
        "a\u2028b",
        "\ufeff",
        "\x07\n",
    ]
)
inners = st.builds(Inner, kind=st.sampled_from(["gelu", "swiglu"]), rate=st.floats(0, 1, exclude_max=True))
outers = st.builds(
    Outer,
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    inner=inners,
    maybe=st.none() | inners,
    parts=st.lists(inners, max_size=2).map(tuple),
    names=st.lists(texts, max_size=3).map(tuple),
    text=texts,
    note=st.none() | texts,
    count=st.integers(-(2**40), 2**40),
)


@given(outers)
def test_a_config_survives_plain_types(value):
    assert configs.from_dict(Outer, configs.to_dict(value)) == value


@pytest.mark.parametrize("suffix", [".json", ".yaml"])
def test_a_config_survives_a_file(suffix, tmp_path):
    path = tmp_path / f"config{suffix}"

    @given(outers)
    def survives(value):
        configs.save(value, path)
        assert configs.load(Outer, path) == value

    survives()


def override_text(*assignments):
    """The default config, changed as ``--set`` does."""
    return configs.override(Outer(), configs.parse_assignments(assignments, Outer))


@given(texts)
def test_any_text_can_be_written(text):
    assert override_text(f"text={text}").text in (text, configs.read_scalar(text))


@pytest.mark.parametrize("text", ["no", "12", "1e-3", "nan", "2024-01-01", "", "null", "[a", "a=b", "inner"])
def test_a_text_needs_no_quotes_whatever_yaml_makes_of_it(text):
    assert override_text(f"text={text}").text == text


@pytest.mark.parametrize(
    ("assignment", "field", "value"),
    [
        ("size=4", "size", (4, 4)),
        ("size=[4, 6]", "size", (4, 6)),
        ("inner.rate=1e-3", "inner", Inner(rate=1e-3)),
        ("maybe.kind=swiglu", "maybe", Inner(kind="swiglu")),
        ("maybe=null", "maybe", None),
        ("note=null", "note", None),
        ("names=[a, b]", "names", ("a", "b")),
        ("count=1e3", "count", 1000),
    ],
)
def test_override(assignment, field, value):
    assert override_text(assignment) == dataclasses.replace(Outer(), **{field: value})


def test_a_part_of_what_was_given_by_name_can_be_changed():
    from vitrail.data import DataConfig, SourceConfig, augmentation

    changed = configs.override(
        DataConfig(source=SourceConfig(spec="digits")),
        {"augment": "deit", "augment.erasing": None, "augment.mix.cutmix": 0},
    )
    deit = augmentation("deit")
    assert changed.augment == dataclasses.replace(deit, erasing=None, mix=dataclasses.replace(deit.mix, cutmix=0))


def test_overrides_apply_in_order_and_leave_the_original():
    original = Outer()
    changes = configs.parse_assignments(["inner.rate=0.5", "inner={kind: swiglu}", "inner.rate=0.25"])
    assert list(changes) == ["inner", "inner.rate"], "the last one counts, and comes last"
    assert configs.override(original, changes).inner == Inner(kind="swiglu", rate=0.25)
    assert original == Outer()


def test_values_may_be_configs():
    changed = configs.override(Outer(), {"inner": Inner(rate=0.3), "maybe": Inner(), "maybe.kind": "swiglu"})
    assert (changed.inner, changed.maybe) == (Inner(rate=0.3), Inner(kind="swiglu"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cuont": 3}, r"unknown setting 'cuont'; did you mean 'count'\?"),
        ({"count": "many"}, "setting 'count' = 'many': input should be a valid integer"),
        ({"text": 3}, "setting 'text' = 3: input should be a valid string"),
        ({"inner.rate": None}, "setting 'inner.rate' = None: input should be a valid number"),
        ({"inner..rate": 1}, "unknown setting 'inner..rate'"),
    ],
)
def test_a_wrong_value_is_named(changes, message):
    with pytest.raises(UserError, match=message) as caught:
        configs.override(Outer(), changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("count", "'count' is not an assignment; write it as key.sub_key=value"),
        ("=3", "'=3' is not an assignment"),
        ("inner..rate=3", "is not an assignment"),
        ("cuont=3", r"unknown setting 'cuont'; did you mean 'count'\?"),
        ("inner.rat=3", r"unknown setting 'inner.rat'; did you mean 'rate'\?"),
        ("maybe.knd=3", r"unknown setting 'maybe.knd'; did you mean 'kind'\?"),
        ("parts=[{rat: 1}]", r"unknown setting 'parts.0.rat'; did you mean 'rate'\?"),
        ("iner.rate=3", r"unknown setting 'iner.rate'; did you mean 'inner'\?"),
        ("count.x=3", "setting 'count.x': 'count' is a single value and has no parts"),
        ("count=many", "setting 'count' = 'many': input should be a valid integer"),
        ("inner.rate=2", "setting 'inner.rate' = 2: input should be less than 1"),
        ("inner.rate=.nan", "setting 'inner.rate' = nan: input should be a finite number"),
        ("inner.kind=relu", "setting 'inner.kind' = 'relu': input should be 'gelu' or 'swiglu'"),
        ("size=[4]", "setting 'size.1' is missing"),
        ("size=0", "setting 'size.0' = 0: input should be greater than 0"),
    ],
)
def test_a_wrong_override_repeats_what_was_written(assignment, message):
    with pytest.raises(UserError, match=message) as caught:
        override_text(assignment)
    assert "\n" not in str(caught.value)


def test_an_error_stays_one_short_line_whatever_the_value():
    with pytest.raises(UserError) as caught:
        configs.from_dict(Outer, {"count": "x" * 100_000}, where="config.yaml")
    assert str(caught.value).startswith("config.yaml: setting 'count' = 'xxx")
    assert len(str(caught.value)) < 200


def test_a_config_is_frozen_and_keyword_only():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Outer().count = 4
    with pytest.raises(TypeError):
        Outer((4, 4))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.json", b"{", "cannot read the config"),
        ("c.yaml", b"a: [", "cannot read the config"),
        ("c.yaml", b"\xff\xfe\xfa", "cannot read the config"),
        ("c.yaml", b"- 1\n- 2\n", "holds no mapping of settings"),
        ("c.yaml", b"", "holds no mapping of settings"),
        ("c.json", b'{"cuont": 3}', r"c.json: unknown setting 'cuont'; did you mean 'count'\?"),
        ("c.json", b"[" * 100_000, "cannot read the config"),
        ("c.yaml", b"[" * 10_000, "cannot read the config"),
    ],
)
def test_a_bad_file_is_the_users_mistake(name, content, message, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        configs.load(Outer, path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_the_users_mistake(tmp_path):
    with pytest.raises(UserError, match=r"cannot read the config .*none.yaml: No such file"):
        configs.load(Outer, tmp_path / "none.yaml")


def test_a_setting_that_was_null_is_begun_by_its_parts() -> None:
    from vitrail.recipes import digits

    run = configs.override(
        digits.run(), {"distill.options.temperature": 2, "distill.teacher": "runs/t", "distill.kind": "soft"}
    )
    assert run.distill is not None
    assert (run.distill.teacher, run.distill.options) == ("runs/t", {"temperature": 2})
    with pytest.raises(UserError, match=r"unknown setting 'distill\.optiens'; did you mean 'options'"):
        configs.override(digits.run(), {"distill.teacher": "runs/t", "distill.optiens.temperature": 2})


def test_a_part_of_free_options_is_begun() -> None:
    from vitrail.data import DataConfig, SourceConfig
    from vitrail.train.run import Run

    run = Run(data=DataConfig(source=SourceConfig(spec="digits")), task_options={"predicts": "x"})
    changed = configs.override(run, {"task_options.sampler.steps": 2, "task_options.sampler.guidance": 3.0})
    assert changed.task_options == {"predicts": "x", "sampler": {"steps": 2, "guidance": 3.0}}
    with pytest.raises(UserError, match=r"unknown setting 'mdoel.dim'; did you mean 'model'"):
        configs.override(run, {"mdoel.dim": 2})
