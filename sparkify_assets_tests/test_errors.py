"""Text from outside becomes harmless where people read it: in messages, tables and logs."""

import dagster as dg
import pytest

from sparkify_assets.console import readable
from sparkify_assets.errors import SparkifyError, printable
from sparkify_assets.formats import text_table

R = "\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(
    "harmful",
    [
        *map(chr, range(32)),
        *map(chr, range(0x7F, 0xA0)),
        *"\u2028\u202e\u2066\ud800\udce9\ufffe\uffff",
    ],
)
def test_what_is_unfit_to_show(harmful: str) -> None:
    assert printable(f"a{harmful}b") == f"a{R}b"
    kept = "\n" if harmful == "\n" else R
    assert str(SparkifyError(f"a{harmful}b")) == f"a{kept}b"
    assert R in text_table([{"song": f"a{harmful}b"}])


@pytest.mark.parametrize(
    "text", ["Björk", "東京\u3000夜", "a\u00a0b", "👨\u200d👩\u200d👧", "نور", "\ue000"]
)
def test_what_people_write_stays(text: str) -> None:
    assert printable(text) == text


def test_a_login_in_an_address_is_not_repeated() -> None:
    said = str(SparkifyError("Not reached: https://etl:secret-word@host:80/a@b, s3://bucket/a@b"))
    assert said == "Not reached: https://***@host:80/a@b, s3://bucket/a@b"


def test_a_line_of_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    readable(dg.build_init_logger_context()).info("one\x1b[31m\ntwo\r")
    assert capsys.readouterr().err[9:] == f"INFO    one{R}[31m\ntwo{R}\n"
