"""The wheel: built and installed, it holds `sql/` and loads its definitions from anywhere."""

import subprocess
import sys
import zipfile
from pathlib import Path

from sparkify_assets.definitions import PACKAGE, SQL
from sparkify_assets_tests.platform import ASSETS

ROOT = PACKAGE.parent


def test_the_installed_wheel_loads_its_definitions(tmp_path: Path) -> None:
    built = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "-o",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run(built, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for name in ("report.html.jinja", *(f"sample/{n}/{n}.zip" for n in ("song_data", "log_data"))):
        assert f"sparkify_assets/{name}" in names
    packed = {name for name in names if name.endswith(".sql")}
    assert packed == {f"sparkify_assets/sql/{p.relative_to(SQL)}" for p in SQL.glob("*/*.sql")}

    installed = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "-q"]
    subprocess.run([*pip, "--target", installed, wheel], check=True, capture_output=True)
    code = (
        f"import sys; sys.path.insert(0, {str(installed)!r})\n"
        "from sparkify_assets import definitions\n"
        "print(definitions.__file__, len(definitions.defs().resolve_all_asset_specs()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    path, assets = done.stdout.split()
    assert Path(path).is_relative_to(installed)
    assert int(assets) == len(ASSETS)
