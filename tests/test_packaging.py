"""How botmemory is installed: what it says of its extras, and that its files agree."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from paths import ROOT
from processes import needs_checkout, needs_posix

from botmemory import _install
from botmemory._install import install_command
from botmemory.interop.files._layout import known_layouts

NEEDED = ("pip", "setuptools", "_distutils_hack", "peewee", "playhouse")


# --- the command that installs an extra -----------------------------------------------------------

needs_setuptools = pytest.mark.skipif(
    find_spec("setuptools") is None or int(version("setuptools").split(".")[0]) < 77,
    reason="setuptools of the test extra is not installed",
)


def run(*command: object, folder: Path, **environment: str) -> str:
    """Return what a program prints, on both channels."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env=os.environ | {"PYTHONPATH": "", "PYTHONNOUSERSITE": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        check=False,
    )
    return done.stdout


class Environment:
    """A virtual environment with pip, setuptools and Peewee, that is never online."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "bin" / "python"
        venv = pytest.importorskip("venv")  # which an embedded Python lacks
        venv.create(folder, symlinks=True)
        [packages] = folder.glob("lib/*/site-packages")
        for name in NEEDED:
            spec = find_spec(name)
            assert spec is not None
            assert spec.origin is not None
            file = Path(spec.origin)
            source = file.parent if spec.submodule_search_locations else file
            (packages / source.name).symlink_to(source)
            for information in source.parent.glob(f"{name}-*.dist-info"):
                (packages / information.name).symlink_to(information)

    def pip(self, *arguments: object) -> str:
        done = run(self.python, "-m", "pip", *arguments, folder=self.folder, **OFFLINE)
        assert "ERROR" not in done, done
        return done

    def says(self, folder: Path, **environment: str) -> str:
        """Return the command that the message for want of click names."""
        code = "from botmemory.cli import main; main()"
        said = run(self.python, "-c", code, folder=folder, **environment)
        needs, named, command = said.partition("botmemory: the command needs click: ")
        assert (needs, named, command[-1:]) == ("", "botmemory: the command needs click: ", "\n")
        return command[:-1]


OFFLINE = {
    "PIP_CONFIG_FILE": os.devnull,
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_FIND_LINKS": "",
    "PIP_NO_INDEX": "1",
}
INSTALL = ("install", "-q", "--no-deps", "--no-build-isolation")


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return Environment(tmp_path / "environment")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A checkout, in a folder whose name has a space and a quote."""
    source = tmp_path / "a bot's own" / "botmemory"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "botmemory", source / "botmemory", ignore=ignored)
    for name in ("setup.cfg", "pyproject.toml", "pytest_botmemory.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    return source


@pytest.fixture
def wheel(environment: Environment, source: Path, tmp_path: Path) -> Path:
    options = ("-q", "--no-deps", "--no-build-isolation", "-w", tmp_path / "wheels")
    environment.pip("wheel", *options, source)
    [wheel] = (tmp_path / "wheels").iterdir()
    return wheel


def assert_it_works(command: str, folder: Path) -> None:
    """Run the command as a shell does: pip finds botmemory and goes on to what the extra needs."""
    said = run("sh", "-c", f"{command} --no-build-isolation", folder=folder, **OFFLINE)
    assert "No matching distribution found for click>=" in said


@needs_posix  # links, and a shell
@needs_setuptools
class TestTheCommandForAnExtra:
    def test_of_an_editable_install(
        self, environment: Environment, source: Path, tmp_path: Path
    ) -> None:
        environment.pip(*INSTALL, "-e", source)
        # the checkout itself, where its egg-info is found first, and elsewhere
        for folder in (source, tmp_path):
            command = environment.says(folder)
            python, *rest = shlex.split(command)
            assert Path(folder, python) == environment.python
            assert rest == ["-m", "pip", "install", "-e", f"{source}[cli]"]
        assert_it_works(command, folder)

    def test_of_a_folder(self, environment: Environment, source: Path, tmp_path: Path) -> None:
        environment.pip(*INSTALL, source)
        command = environment.says(tmp_path)
        assert shlex.split(command)[-2:] == ["install", f"{source}[cli]"]
        assert_it_works(command, tmp_path)
        shutil.rmtree(source)
        assert environment.says(tmp_path).endswith(" -m pip install 'botmemory[cli]'")

    def test_of_a_wheel(self, environment: Environment, wheel: Path, tmp_path: Path) -> None:
        environment.pip(*INSTALL, wheel)
        command = environment.says(tmp_path)
        assert shlex.split(command)[-2:] == ["install", f"{wheel}[cli]"]
        assert_it_works(command, tmp_path)

    def test_a_wheel_has_the_layouts_of_files(self, wheel: Path) -> None:
        with zipfile.ZipFile(wheel) as archive:
            names = {Path(name).stem for name in archive.namelist() if "files/layouts/" in name}
        assert names == set(known_layouts())

    def test_a_wheel_has_the_pytest_plugin(self, wheel: Path) -> None:
        with zipfile.ZipFile(wheel) as archive:
            assert "pytest_botmemory.py" in archive.namelist()
            [points] = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
            declared = configparser.ConfigParser()
            declared.read_string(archive.read(points).decode())
        assert dict(declared["pytest11"]) == {"botmemory": "pytest_botmemory"}

    def test_of_an_index(self, environment: Environment, wheel: Path, tmp_path: Path) -> None:
        environment.pip(*INSTALL, "--find-links", wheel.parent, "botmemory")
        command = environment.says(tmp_path)
        assert command == "./environment/bin/python -m pip install 'botmemory[cli]'"
        assert_it_works(command, tmp_path)

    @pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
    def test_of_a_repository(self, environment: Environment, source: Path, tmp_path: Path) -> None:
        git = ("git", "-c", "user.name=me", "-c", "user.email=me@localhost")
        for arguments in (("init", "-q"), ("add", "."), ("commit", "-q", "-m", "All of it")):
            assert run(*git, *arguments, folder=source) == ""
        commit = run("git", "rev-parse", "HEAD", folder=source).strip()
        url = f"git+file://localhost{source.as_uri().removeprefix('file://')}"
        environment.pip(*INSTALL, f"git+{source.as_uri()}")
        command = environment.says(tmp_path)
        assert shlex.split(command)[-1] == f"botmemory[cli] @ {url}@{commit}"
        assert_it_works(command, tmp_path)

    def test_of_a_checkout_that_is_not_installed(
        self, environment: Environment, source: Path
    ) -> None:
        command = environment.says(source)
        assert shlex.split(command)[-3:] == ["install", "-e", f"{source}[cli]"]


@pytest.fixture
def origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[object], None]:
    """A function that writes where an installed botmemory came from, found before any other."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(content: object) -> None:
        folder = tmp_path / "botmemory-0.1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text("Name: botmemory\nVersion: 0.1.0\n")
        (folder / "direct_url.json").write_text(json.dumps(content))

    return write


GIT = {"vcs": "git", "requested_revision": "main", "commit_id": "0a1b2c"}


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (
            {"url": "https://me:s3cret@example.org/a/bot.whl?token=s3cret", "archive_info": {}},
            "https://example.org/a/bot.whl",
        ),
        ({"url": "https://s3cret@example.org/bot", "vcs_info": GIT}, "git+https://example.org/bot"),
        (
            {"url": "https://${USER}:s3cret@example.org:8443/bot", "vcs_info": GIT},
            "git+https://example.org:8443/bot",
        ),
        (
            {"url": "ssh://git@example.org/bot.git", "vcs_info": GIT, "subdirectory": "lib"},
            "git+ssh://git@example.org/bot.git",
        ),
    ],
)
def test_no_secret_of_a_url_is_shown(
    origin: Callable[[object], None], content: dict[str, object], shown: str
) -> None:
    origin(content)
    end = "@0a1b2c" if "vcs_info" in content else ""
    end += "#subdirectory=lib" if "subdirectory" in content else ""
    command = install_command("frames")
    assert shlex.split(command)[-1] == f"botmemory[frames] @ {shown}{end}"
    assert "s3cret" not in command


@needs_posix
def test_the_python_is_named_as_it_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert install_command("cli").startswith(f"{shlex.quote(sys.executable)} -m pip install ")
    (tmp_path / "python3").symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python3"))
    assert install_command("cli").startswith("python3 -m pip install ")
    monkeypatch.setenv("PATH", "")
    monkeypatch.chdir(tmp_path.parent)
    assert install_command("cli").startswith(f"./{tmp_path.name}/python3 -m pip install ")


@needs_posix
def test_an_environment_of_uv_has_no_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "uv").write_text("")
    (tmp_path / "uv").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert " -m pip install " in install_command("cli")
    monkeypatch.setattr(_install, "find_spec", lambda name: None)
    python = shlex.quote(sys.executable)
    assert install_command("cli").startswith(f"uv pip install --python {python} ")


@needs_checkout
def test_every_message_asks_for_the_command() -> None:
    for file in (ROOT / "botmemory").rglob("*.py"):
        if file.name != "_install.py":
            text = file.read_text(encoding="utf-8")
            assert not re.search(r"pip install|botmemory\[", text), file


# --- what the package says of itself --------------------------------------------------------------


@pytest.fixture
def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def requirements(text: str) -> dict[str, Requirement]:
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {one.name.lower(): one for one in map(Requirement, lines)}


@needs_checkout
def test_the_oldest_versions_that_are_allowed_are_tested(setup: configparser.ConfigParser) -> None:
    extras = setup["options.extras_require"]
    allowed = requirements(setup["options"]["install_requires"])
    for extra in ("cli", "frames", "postgres", "report", "web"):
        allowed |= requirements(extras[extra])
    tested = requirements((ROOT / ".ci" / "minimum.txt").read_text(encoding="utf-8"))
    assert tested.keys() == allowed.keys()
    for name, requirement in allowed.items():
        [oldest] = [part.version for part in requirement.specifier if part.operator == ">="]
        [pinned] = tested[name].specifier
        assert pinned.operator == "==", name
        assert re.fullmatch(rf"{re.escape(oldest)}(\.0)*", pinned.version), name


@needs_checkout
def test_it_claims_the_pythons_and_systems_that_are_tested(
    setup: configparser.ConfigParser,
) -> None:
    classifiers = setup["metadata"]["classifiers"].splitlines()
    claimed = {line.split(" :: ")[-1] for line in classifiers if " Python :: 3." in line}
    steps = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    tested = set(re.findall(r"check_sdist \S+ (3\.\d+)", steps))
    assert "bash .ci/check_new_pythons" in steps
    newer = (ROOT / ".ci" / "check_new_pythons").read_text(encoding="utf-8")
    [versions] = re.findall(r'^PYTHONS="(.*)"$', newer, re.MULTILINE)
    tested.update(versions.split())
    assert claimed == {setup["options"]["python_requires"].removeprefix(">="), *tested}
    systems = [line for line in classifiers if line.startswith("Operating System ::")]
    assert "bash .ci/check_windows" in steps
    assert systems == [
        "Operating System :: Microsoft :: Windows",
        "Operating System :: POSIX :: Linux",
    ]
    assert "Programming Language :: Python :: Implementation :: CPython" in classifiers


@needs_checkout
def test_what_checks_a_commit_is_what_checks_the_project(setup: configparser.ConfigParser) -> None:
    dev = requirements(setup["options.extras_require"]["dev"])
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    used = re.findall(r'additional_dependencies: \["(.*)"\]', hooks)
    assert len(used) == 3
    for requirement in map(Requirement, used):
        assert dev[requirement.name] == requirement


@needs_checkout
def test_no_package_imports_a_private_module_of_another() -> None:
    private = re.compile(r"^ *from \.\.+(?:\w+\.)+_\w+ import .*", re.MULTILINE)
    files = (ROOT / "botmemory").rglob("*.py")
    imports = [line for file in files for line in private.findall(file.read_text("utf-8"))]
    assert imports == []
