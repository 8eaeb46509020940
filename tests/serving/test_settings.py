"""Settings: from the environment, the file, the defaults, in that order."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from features.errors import BadSettings
from serving.settings import load_settings


@pytest.fixture
def load(tmp_path):
    def make(toml="", **environ):
        (tmp_path / "nbo.toml").write_text(toml)
        return load_settings({"NBO_HOME": str(tmp_path), **environ})

    return make


def test_the_environment_wins_over_the_file(load):
    assert load("[decision]\nepsilon = 0.2", NBO_EPSILON="0.3").epsilon == 0.3
    assert load("[decision]\nepsilon = 0.2").epsilon == 0.2


def test_a_set_clock_is_fixed_for_commands_and_ticks_for_the_service(load):
    settings = load('[clock]\nas_of = "2018-08-25T00:00:00Z"')
    assert settings.now() == datetime(2018, 8, 25, tzinfo=UTC)
    clock = settings.clock()
    assert datetime(2018, 8, 25, tzinfo=UTC) <= clock() <= clock()


def test_a_toml_time_is_a_time(load):
    assert load("[clock]\nas_of = 2018-08-25T02:00:00+02:00").as_of == datetime(2018, 8, 25, tzinfo=UTC)


@pytest.mark.parametrize(
    ("toml", "environ", "words"),
    [
        ("[decision]\nepsilom = 0.1", {}, "decision.epsilom is not a setting"),
        ("[decision]\nepsilon = 1.5", {}, "epsilon == 1.5"),
        ("[decision]\nepsilon = nan", {}, "epsilon == nan"),
        ("[experiments]\nholdout = 1.0", {}, "holdout == 1.0, must be in [0, 1."),
        ("[experiments]\nholdout = nan", {}, "holdout == nan"),
        ("", {"NBO_HOLDOUT": "-0.1"}, "holdout == -0.1"),
        ("", {"NBO_HOLDOUT": "some"}, "NBO_HOLDOUT is 'some', expected a number"),
        ("", {"NBO_EPSILON": "much"}, "NBO_EPSILON is 'much'"),
        ("", {"NBO_AS_OF": "2018-08-25"}, "NBO_AS_OF"),
        ("", {"NBO_AS_OF": "2018-08-25T00:00:00"}, "no offset"),
        ("[clock", {}, "not valid TOML"),
        ("[decision]\ndurable = 'perhaps'", {}, "decision.durable"),
        ("speed = 3", {}, "speed is not a setting"),
    ],
)
def test_a_wrong_setting_is_named(load, toml, environ, words):
    with pytest.raises(BadSettings, match=words.replace("[", r"\[")):
        load(toml, **environ)
