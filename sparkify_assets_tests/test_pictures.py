"""The pictures of the README show the product as it is."""

import importlib.util
import json
from types import ModuleType

import pytest

from sparkify_assets_tests.processes import ROOT


@pytest.fixture
def pictures() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pictures", ROOT / "docs" / "pictures.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_picture_is_stale(pictures: ModuleType) -> None:
    made_of = json.loads(pictures.DIGESTS.read_text())
    stale = [name for name, digest in pictures.digests().items() if made_of.get(name) != digest]
    assert stale == [], "python docs/pictures.py makes them again"


def test_every_pattern_names_files(pictures: ModuleType) -> None:
    for patterns in pictures.SHOWS.values():
        for pattern in patterns:
            assert any(ROOT.glob(pattern)), pattern
    for name in pictures.SHOWS:
        assert (ROOT / "docs" / name).read_bytes().startswith(b"\x89PNG"), name
