"""The image, the compose file and the units, as far as no container engine is needed to check them.

How the services behave once they run is in `test_service.py`.
"""

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from configparser import RawConfigParser
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from sparkify_assets_tests.dockerfile import stages
from sparkify_assets_tests.processes import ROOT

BIN = Path(sys.executable).parent
UNITS = ROOT / "deploy" / "systemd"
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
OURS = ("code", "web", "daemon", "retention")
BUILD, IMAGE = stages((ROOT / "Dockerfile").read_text())


def ask(*command: str | Path) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    return done.stdout


def locked() -> dict[str, Requirement]:
    """Every package of the lock, each with at least one hash."""
    entries = (ROOT / "deploy" / "requirements.lock").read_text().replace("\\\n", "").splitlines()
    found: dict[str, Requirement] = {}
    for entry in entries:
        if not entry.startswith("#"):
            pin, *hashes = re.split(r"\s+--hash=sha256:", entry.strip())
            assert hashes and all(re.fullmatch("[0-9a-f]{64}", h) for h in hashes), pin
            requirement = Requirement(pin)
            assert re.fullmatch(r"==[^,*]+", str(requirement.specifier)), pin
            found[canonicalize_name(requirement.name)] = requirement
    return found


def needs_of(name: str, extras: set[str]) -> Iterator[Requirement]:
    """What a package asks for, in the version that is installed here."""
    for text in distribution(name).requires or []:
        need = Requirement(text)
        if not need.marker or any(need.marker.evaluate({"extra": e}) for e in extras | {""}):
            yield need


def test_the_lock_has_what_the_project_and_its_packages_ask_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    ours = [
        *project["project"]["dependencies"],
        *project["project"]["optional-dependencies"]["service"],
        *project["build-system"]["requires"],
    ]
    pins, needs = locked(), [Requirement(text) for text in ours]
    checked = 0
    for name, pin in pins.items():
        try:
            same = pin.specifier.contains(distribution(name).version)
        except PackageNotFoundError:
            same = False
        if same:  # of other versions nothing is known here
            needs += needs_of(name, pin.extras)
            checked += 1
    assert checked > len(pins) / 2
    for need in needs:
        pin = pins[canonicalize_name(need.name)]
        [version] = pin.specifier
        assert need.specifier.contains(version.version, prereleases=True), f"{need}: {pin}"
        assert need.extras <= pin.extras, f"{need}: {pin}"


@pytest.mark.faults
def test_every_line_of_the_build_runs(tmp_path: Path) -> None:
    """Its RUN lines, in their order, in a folder that holds what it copies, and no more."""
    build, prefix = tmp_path / "build", tmp_path / "opt" / "sparkify"
    build.mkdir()
    for *sources, target in BUILD.copies:
        for source in sources:
            path, into = ROOT / source, build / target
            if path.is_dir():
                shutil.copytree(path, into, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                into.mkdir(exist_ok=True)
                shutil.copy(path, into)
    for command in BUILD.commands:
        script = command.replace("/opt/sparkify", str(prefix))
        done = subprocess.run(["sh", "-ec", script], cwd=build, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    said = (ROOT / "docs" / "deployment.md").read_text()
    assert all(command in said for command in BUILD.commands if "pip" in command)
    code = "from sparkify_assets import definitions, service; print(definitions.__file__)"
    assert ask(prefix / "bin" / "python", "-I", "-c", code).startswith(str(prefix))


def test_the_image_is_as_the_linter_of_dockerfiles_wants_it() -> None:
    ask(BIN / "hadolint", "--failure-threshold", "style", ROOT / "Dockerfile")
    assert IMAGE.image == BUILD.image == "python:3.11-slim-bookworm"  # as the lock
    assert IMAGE.user == "10001"
    assert all("pip" not in command for command in IMAGE.commands)


def test_what_is_copied_into_the_image_is_let_in() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    let_in = {line[1:] for line in lines if line.startswith("!")}
    copies = [c for s in (BUILD, IMAGE) for c in s.copies if not c[0].startswith("--from=")]
    assert let_in == {source for *sources, _ in copies for source in sources}
    assert "*" in lines
    assert all((ROOT / path).exists() for path in let_in)


def test_the_workflow_tests_every_version_that_is_supported() -> None:
    path = ROOT / ".github/workflows/ci.yaml"
    ask(BIN / "check-jsonschema", "--builtin-schema", "vendor.github-workflows", path)
    text = path.read_text()
    tested = set(re.findall(r'"(3\.\d+)"', text))
    supported = (ROOT / "CONTRIBUTING.md").read_text().splitlines()[2]
    assert tested == set(re.findall(r"3\.\d+", supported))
    for command in re.findall(r"^ *- run: (pip install -e.*|mypy|pytest)$", text, re.M):
        assert command in (ROOT / ".ci/run").read_text().replace(" -q", "")
    assert "run: .ci/run" in text


def test_the_compose_file_is_one() -> None:
    """By the schema of its specification; where a container may write, and who hears it."""
    schema = "vendor.compose-spec"
    ask(BIN / "check-jsonschema", "--builtin-schema", schema, ROOT / "compose.yaml")
    services = COMPOSE["services"]
    assert services.keys() == {"postgres", *OURS}
    for name in OURS:
        service = services[name]
        assert service["read_only"] and service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert "privileged" not in service and "user" not in service  # the image has its own
        assert (service.get("volumes") is not None) == (name == "code")
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert published == ["127.0.0.1:3000:3000"]
    assert all("healthcheck" in service for service in services.values())
    assert "networks" in services["postgres"] and services["postgres"]["networks"] == ["inside"]
    assert COMPOSE["networks"]["inside"]["internal"]


def unit(path: Path) -> RawConfigParser:
    parser = RawConfigParser(strict=False, interpolation=None, delimiters="=")
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(path)
    return parser


def test_the_units_start_what_compose_starts() -> None:
    places = {
        "/etc/sparkify": "/opt/dagster",
        "/opt/sparkify/bin/": "",
        "127.0.0.1": "0.0.0.0",
    }
    for name in ("code", "web", "daemon"):
        command = unit(UNITS / f"sparkify-{name}.service")["Service"]["ExecStart"]
        for place, other in places.items():
            command = command.replace(place, other)
        assert command.split() == COMPOSE["services"][name]["command"]
    command = unit(UNITS / "sparkify-retention.service")["Service"]["ExecStart"]
    assert (
        command.removeprefix("/opt/sparkify/bin/") in COMPOSE["services"]["retention"]["command"][2]
    )
    assert not re.search(r"0\.0\.0\.0", "".join(p.read_text() for p in UNITS.glob("*.service")))


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """On a copy, whose programs are this environment's: it asks whether they exist."""
    units = tmp_path / "units"
    shutil.copytree(UNITS, units)
    for path in units.glob("*.service"):
        path.write_text(path.read_text().replace("/opt/sparkify/bin", str(BIN)))
    found = sorted([*units.glob("*.service"), *units.glob("*.timer")])
    assert len(found) == 5
    said = ask("systemd-analyze", "verify", "--man=no", *found)
    assert "sparkify" not in said  # of units of this machine it may say what it likes
    for path in units.glob("*.service"):  # from 0, locked up, to 100
        ask("systemd-analyze", "security", "--offline=true", "--threshold=20", path)


def test_every_variable_of_the_settings_is_set() -> None:
    texts = [(ROOT / "deploy" / name).read_text() for name in ("dagster.yaml", "workspace.yaml")]
    names = set(re.findall(r"env: (\w+)", "".join(texts)))
    assert names <= COMPOSE["x-dagster"]["environment"].keys() | IMAGE.variables.keys()
    of_units = (UNITS / "sparkify-.service.d" / "common.conf").read_text()
    asked_for = re.findall(r"`(DAGSTER_\w+)`", (ROOT / "docs" / "deployment.md").read_text())
    assert names == set(re.findall(r"(\w+)=", of_units)) & names | set(asked_for)
