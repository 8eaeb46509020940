"""The command line's own promises: exit codes, and one line instead of a traceback."""

from __future__ import annotations

import signal
import sys

import pytest

from features.facts import Facts
from serving import cli
from serving.commands import doctor


@pytest.fixture
def nbo(monkeypatch, capsys):
    """Runs a command line; its exit code and what it said on stderr."""

    def run(*words: str) -> tuple[object, str]:
        monkeypatch.setattr(sys, "argv", ["nbo", *words])
        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a process of its own
        try:
            with pytest.raises(SystemExit) as end:
                cli.main()
        finally:
            signal.signal(signal.SIGINT, before)
        return end.value.code, capsys.readouterr().err

    return run


@pytest.mark.parametrize(
    "words",
    [
        ("train", "foo"),
        ("models", "promote", "--force"),
        ("ingest", "tables", "--max-refused", "5"),
        ("features", "check", "--customers", "0"),
    ],
)
def test_wrong_usage_is_exit_code_2(nbo, monkeypatch, tmp_path, words):
    monkeypatch.setenv("NBO_HOME", str(tmp_path))
    assert nbo(*words)[0] == 2


@pytest.mark.parametrize("below", ["", "deeper/home"])
@pytest.mark.parametrize("words", [("ingest", "."), ("keys", "list"), ("models", "list"), ("features", "list")])
def test_a_home_that_is_a_plain_file_is_one_line(nbo, monkeypatch, tmp_path, words, below):
    (tmp_path / "file").write_text("")
    home = tmp_path / "file" / below
    monkeypatch.setenv("NBO_HOME", str(home))
    code, said = nbo(*words)
    assert code == 1
    assert said.startswith(f"nbo: NBO_HOME is {home}, which cannot be used")
    assert said.count("\n") == 1


def test_a_demo_cannot_be_kept_in_a_plain_file(nbo, tmp_path):
    (tmp_path / "file").write_text("")
    code, said = nbo("demo", "--keep", str(tmp_path / "file"))
    assert code == 1
    assert said.startswith(f"nbo: --keep is {tmp_path / 'file'}")


@pytest.mark.parametrize("becomes", [RuntimeError("Query interrupted"), None])
def test_ctrl_c_is_one_line_and_exit_code_130(nbo, monkeypatch, becomes):
    def interrupted(**_: object) -> int:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            if becomes is None:
                raise
            raise becomes from None
        return 0

    monkeypatch.setattr(doctor, "run", interrupted)
    assert nbo("doctor") == (130, "nbo: interrupted\n")


def test_nothing_to_promote_says_what_to_run(nbo, monkeypatch, tmp_path):
    monkeypatch.setenv("NBO_HOME", str(tmp_path))
    code, said = nbo("models", "promote")
    assert code == 1
    assert "run `nbo train`" in said.splitlines()[-1]


def test_doctor_fails_on_a_home_that_cannot_be_made_and_on_an_unknown_policy(monkeypatch, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NBO_HOME", str(tmp_path / "file"))
    assert doctor.run(as_json=False) == 1
    assert "FAILURE  home" in capsys.readouterr().out
    monkeypatch.setenv("NBO_HOME", str(tmp_path))
    monkeypatch.setenv("NBO_POLICY", "guess")
    assert doctor.run(as_json=False) == 1
    assert "FAILURE  settings     policy is 'guess'" in capsys.readouterr().out


def test_doctor_names_a_bound_of_a_gate_that_is_none_and_the_gates_that_were_changed(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("NBO_HOME", str(tmp_path))
    Facts(tmp_path / "facts.db").close()
    (tmp_path / "gates.toml").write_text("[latency]\nmax_p99_ms = 3.0\n")
    doctor.run(as_json=False)
    assert "gates.toml changes latency" in capsys.readouterr().out
    (tmp_path / "gates.toml").write_text("[latency]\nmax_p99 = 3.0\n")
    assert doctor.run(as_json=False) == 1
    assert "latency.max_p99 is not a bound" in capsys.readouterr().out
