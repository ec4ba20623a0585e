"""Command lines that cannot be carried out: the whole output, the exit code, and the same as JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dynoctl.__main__ import run
from dynoctl.cli import known
from dynoctl.topology.load import parse
from tests.dynoctl.cli.cluster import Done
from tests.dynoctl.cli.conftest import Dynoctl
from tests.dynoctl.plan.world import ONE, TWO


def refused(*lines: str, code: int = 2) -> Done:
    return Done(code, "", "".join(f"{line}\n" for line in lines))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize(
    ("argv", "message", "verb"),
    [
        (("frob",), "No such command 'frob'", "dynoctl"),
        (("--frob",), "No such option: --frob", "dynoctl"),
        (("up", "--frob"), "No such option: --frob", "dynoctl up"),
        (
            ("logs", "--tail", "x"),
            "Invalid value for '--tail' / '-n': 'x' is not a valid integer range",
            "dynoctl logs",
        ),
        (("status", "a", "b"), "Got unexpected extra argument(s) (b)", "dynoctl status"),
        (("validate",), "Missing argument 'FILE'", "dynoctl validate"),
    ],
)
def test_what_the_parser_refuses(argv: tuple[str, ...], message: str, verb: str, dynoctl: Dynoctl) -> None:
    assert dynoctl(*argv) == refused(f"error: {message}", f"next: {verb} --help")


def test_an_unknown_name(dynoctl: Dynoctl, here: Path) -> None:
    for verb in ("up", "plan", "status", "logs", "down"):
        assert dynoctl(verb, "nobody") == refused(
            "error: there is no file 'nobody', and no cluster of that name is known here",
            "  known: none",
            "next: dynoctl up FILE",
        )


def test_nothing_typed_and_nothing_known(dynoctl: Dynoctl, here: Path) -> None:
    assert dynoctl("status") == refused(
        "error: no cluster is known here: name a topology file", "next: dynoctl up topologies/local.yaml"
    )


def remember(name: str, file: Path, text: str = ONE) -> None:
    file.write_text(text.replace("name: c", f"name: {name}"))
    known.remember(str(file), parse(file.read_text(), file.name))


def test_nothing_typed_and_several_known(dynoctl: Dynoctl, here: Path) -> None:
    remember("beta", here / "b.yaml")
    remember("alpha", here / "a.yaml")
    assert dynoctl("down") == refused(
        "error: several clusters are known here: alpha, beta", "next: the same, with one of them: alpha"
    )
    assert dynoctl("down", "gamma").err.splitlines()[1] == "  known: alpha, beta"


def test_set_goes_with_a_file(dynoctl: Dynoctl, here: Path) -> None:
    remember("alpha", here / "a.yaml")
    message = "error: --set goes with a topology file, not with what runs already"
    assert dynoctl("status", "alpha", "--set", "engine.block_size=32") == refused(message)
    (here / "a.yaml").unlink()
    assert dynoctl("up", "alpha", "--set", "engine.block_size=32") == refused(message)


def test_a_name_means_its_file_from_any_folder(
    dynoctl: Dynoctl, here: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (here / "a.yaml").write_text(ONE.replace("name: c", "name: alpha"))
    known.remember("a.yaml", parse((here / "a.yaml").read_text(), "a.yaml"))
    (here / "a.yaml").write_text(ONE.replace("name: c", "name: alpha").replace("{id: m}", "{id: m, x: 1}"))
    monkeypatch.chdir(tmp_path)
    done = dynoctl("plan", "alpha", "--offline")
    assert done.code == 2
    assert f"{here}/a.yaml:2:16: model.x: unknown key" in done.err


def test_a_name_means_its_file_with_what_was_set_at_its_last_up(
    dynoctl: Dynoctl, here: Path, home: Path
) -> None:
    (here / "a.yaml").write_text(ONE.replace("name: c", "name: alpha"))
    topology = parse((here / "a.yaml").read_text(), "a.yaml")
    (here / "sub").mkdir()
    known.remember("sub/../a.yaml", topology, ("roles.frontend.port=8123", "env.API_KEY=hush"))
    done = dynoctl("plan", "alpha")
    assert "start frontend-0 on ports 8123, " in done.out
    told = f"alpha: with --set roles.frontend.port, env.API_KEY, as in its last up from {here}/a.yaml\n"
    assert done.err.startswith(told)
    again = dynoctl("plan", "alpha", "--set", "roles.frontend.port=8124")  # what is typed now counts more
    assert "start frontend-0 on ports 8124, " in again.out
    a_file = dynoctl("plan", "a.yaml", "--offline")  # means what it says
    assert "start frontend-0 on ports 8000, " in a_file.out


def test_a_file_that_became_that_of_another_cluster(dynoctl: Dynoctl, here: Path) -> None:
    (here / "a.yaml").write_text(ONE.replace("name: c", "name: alpha"))
    known.remember("a.yaml", parse((here / "a.yaml").read_text(), "a.yaml"))
    (here / "a.yaml").write_text(ONE.replace("name: c", "name: beta"))
    assert dynoctl("up", "alpha") == refused(
        f"error: {here}/a.yaml brought alpha up, and is the file of beta now",
        f"next: dynoctl up {here}/a.yaml, or dynoctl down alpha",
    )


def test_a_folder_of_the_clusters_name_is_not_its_file(dynoctl: Dynoctl, here: Path) -> None:
    remember("alpha", here / "a.yaml")
    (here / "alpha").mkdir()
    assert dynoctl("plan", "alpha", "--offline").code == 0


def test_what_is_known_is_kept_for_oneself_and_forgotten(home: Path, here: Path) -> None:
    remember("alpha", here / "a.yaml", TWO + "env: {API_KEY: hush}\n")
    path = home / "known" / "alpha" / "cluster.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert {above.stat().st_mode & 0o777 for above in (home, home / "known", path.parent)} == {0o700}
    found = known.load("alpha")
    assert found is not None
    assert found.topology["env"] == {"API_KEY": "hush"}
    path.write_text('{"file": ')
    assert known.load("alpha") is None
    known.forget("alpha")
    known.forget("alpha")
    assert known.names() == ()


def test_a_file_that_is_not_there(dynoctl: Dynoctl, here: Path) -> None:
    for verb in ("validate", "plan", "up", "status", "logs", "down"):
        assert dynoctl(verb, "none.yaml") == refused(
            "error: there is no file none.yaml", "next: ls ./*.yaml"
        ), verb


def test_a_file_that_is_no_topology(dynoctl: Dynoctl, here: Path) -> None:
    (here / "t.yaml").write_text(ONE.replace("decode:", "decodes:"))
    done = dynoctl("up", "t.yaml")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: t.yaml is not a valid topology: ")
    assert "t.yaml:4:" in done.err
    assert "did you mean 'decode'?" in done.err


def test_an_override_that_is_wrong(dynoctl: Dynoctl, here: Path) -> None:
    (here / "t.yaml").write_text(ONE)
    done = dynoctl("plan", "--offline", "t.yaml", "--set", "engine.kindd=x")
    assert done.code == 2
    assert "--set engine.kindd=x: engine.kindd: unknown key" in done.err


@pytest.mark.parametrize(
    "argv", [("status", "nobody"), ("plan", "none.yaml"), ("up", "--frob"), ("frob",), ("down",)]
)
def test_every_error_is_a_document_for_programs(argv: tuple[str, ...], dynoctl: Dynoctl, here: Path) -> None:
    plain, done = dynoctl(*argv), dynoctl(*argv, "--json")
    document = json.loads(done.out)
    assert list(document) == ["error", "detail", "next"]
    assert (done.code, done.err) == (plain.code, plain.err)
    assert plain.err.startswith(f"error: {document['error']}\n")


def test_debug_lets_the_traceback_through(home: Path, here: Path) -> None:
    from dynoctl.errors import UsageError

    with pytest.raises(UsageError):
        run(["status", "nobody", "--debug"])
    assert run(["status", "nobody"]) == 2


def test_a_mistake_of_ours_is_one_sentence(dynoctl: Dynoctl, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(typed: str | None, overrides: list[str], *, json: bool) -> int:
        raise KeyError("oops")

    monkeypatch.setattr("dynoctl.cli.status.status", broken)
    assert dynoctl("status") == refused(
        "error: dynoctl itself failed: KeyError: 'oops'",
        "next: the same command with --debug, and please report what it prints",
        code=1,
    )
    with pytest.raises(KeyError):
        run(["status", "--debug"])


def test_ctrl_c_where_nothing_was_changed(dynoctl: Dynoctl, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(typed: str | None, overrides: list[str], *, json: bool) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("dynoctl.cli.status.status", interrupted)
    assert dynoctl("status") == refused("interrupted", code=130)


def test_a_plan_with_changes_ends_with_2_only_where_it_is_asked_to(tmp_path: Path) -> None:
    file = str(Path(__file__).resolve().parents[3] / "topologies" / "hello-local.yaml")
    environment = {**os.environ, "DYNOCTL_HOME": str(tmp_path / "home")}

    def plan(*options: str) -> int:
        words = [
            sys.executable,
            "-m",
            "dynoctl",
            "plan",
            file,
            "--set",
            f"state_dir={tmp_path}/state",
            *options,
        ]
        return subprocess.run(words, env=environment, capture_output=True, check=False, timeout=60).returncode

    assert plan("--offline") == 0
    assert plan("--offline", "--detailed-exitcode") == 2
