"""gates.toml: absent it is the defaults, present it is checked, and what is wrong is named."""

from __future__ import annotations

import tomllib

import msgspec
import pytest

from features.errors import BadSettings
from features.home import Home
from training.gates import GATES, as_toml, bounds_of, read_bounds

DEFAULTS = bounds_of({})


def test_without_a_file_the_defaults_hold_for_every_gate(tmp_path):
    assert read_bounds(Home(tmp_path)) == DEFAULTS
    assert set(DEFAULTS) == set(GATES)


def test_what_is_printed_is_a_file_that_gives_the_same_bounds(tmp_path):
    changed = {**DEFAULTS, "latency": msgspec.structs.replace(DEFAULTS["latency"], max_p99_ms=3.5, enabled=False)}
    (tmp_path / "gates.toml").write_text(as_toml(changed))
    assert read_bounds(Home(tmp_path)) == changed


def test_what_a_file_leaves_out_has_its_default(tmp_path):
    (tmp_path / "gates.toml").write_text("[latency]\nmax_p99_ms = inf\n")
    found = read_bounds(Home(tmp_path))
    assert found["latency"].max_p99_ms == float("inf")
    assert found["latency"].max_times_champion == DEFAULTS["latency"].max_times_champion
    assert found["size"] == DEFAULTS["size"]


@pytest.mark.parametrize(("text", "field", "said"), [
    ("[latancy]\nmax_p99_ms = 1", "latancy", "latancy is not a gate, expected one of baseline, ranking"),
    ("latency = 3", "latency", r"latency is 3, expected a table \[latency\]"),
    ("[latency]\nmax_p99 = 1", "latency.max_p99", "latency.max_p99 is not a bound, expected one of enabled"),
    ("[latency]\nmax_p99_ms = -1", "latency.max_p99_ms", "latency.max_p99_ms is -1, expected `float` > 0"),
    ("[latency]\nmax_p99_ms = '5'", "latency.max_p99_ms", "latency.max_p99_ms is '5', expected `float`"),
    ("[latency]\nmax_p99_ms = nan", "latency.max_p99_ms", "latency.max_p99_ms is nan, expected a number"),
    ("[ranking]\nmax_drop = 1.5", "ranking.max_drop", "ranking.max_drop is 1.5, expected `float` <= 1.0"),
    ("[slices]\nmin_rows = 0", "slices.min_rows", "slices.min_rows is 0, expected `int` >= 1"),
    ("[size]\nno_verdict = 'maybe'", "size.no_verdict", "size.no_verdict is 'maybe', expected one of passes, refuses"),
    ("[size]\nenabled = 'yes'", "size.enabled", "size.enabled is 'yes', expected `bool`"),
    ("[size", "gates.toml", "is not valid TOML"),
])  # fmt: skip
def test_what_is_wrong_is_named(tmp_path, text, field, said):
    (tmp_path / "gates.toml").write_text(text)
    with pytest.raises(BadSettings, match=said) as error:
        read_bounds(Home(tmp_path))
    assert error.value.field == field


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "gates.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(BadSettings, match="cannot be read"):
        read_bounds(Home(tmp_path))


def test_every_bound_is_in_the_reference(request):
    page = (request.config.rootpath / "docs/reference/gates.md").read_text()
    for name, of in DEFAULTS.items():
        table = tomllib.loads(as_toml({name: of}))[name]
        for key, value in table.items():
            if key in ("enabled", "no_verdict"):
                continue
            assert f"| `{name}.{key}` | {value:g} |" in page
