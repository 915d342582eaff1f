"""What the model of Redshift's costs counts, against files that are counted here."""

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.redshift_cost import COUNT, DAY, KEYS, PREVIEW, USER_KEYS, Model, main, report
from benchmarks.redshift_traffic import Measured, Traffic, measure
from benchmarks.simulator import Plan, write_event_files, write_song_files

ASSETS = ("staging_songs", "staging_events", "repaired_text", "catalogue", "events")


@pytest.fixture(scope="module")
def measured() -> Measured:
    return measure(Plan(songs=20, events=600, days=3), *ASSETS)


def test_rows_requests_and_reads_are_those_of_the_files(measured: Measured, tmp_path: Path) -> None:
    write_song_files(tmp_path / "songs", measured.plan)
    write_event_files(tmp_path / "log", measured.plan)
    songs = len([*(tmp_path / "songs").rglob("*.json")])
    days = [len(p.read_text().splitlines()) for p in sorted((tmp_path / "log").rglob("*.json"))]
    cold, day, nothing = measured.runs.values()

    def copied(run: Traffic) -> Counter[str]:
        found: Counter[str] = Counter()
        for sent in run.statements:
            if sent.kind == "COPY":
                found[sent.target.split(".")[1]] += sent.rows
        return found

    assert copied(cold)["staging_songs"] == songs
    assert [copied(cold)["staging_events"], copied(day)["staging_events"]] == [
        sum(days[:-1]),
        days[-1],
    ]
    assert cold.requests["GET"] == songs + len(days) - 1
    assert (day.requests["GET"], nothing.requests["GET"]) == (1, 0)
    assert not {sent.kind for sent in nothing.statements} & {"INSERT", "DELETE", "COPY"}
    assert 0 < nothing.bytes["bytes to the warehouse"] < day.bytes["bytes to the warehouse"]
    assert "| one more day |" in "".join(report(measured))

    model = Model(measured, events=1_000, days=100)
    found: dict[tuple[str, str, str], list[float]] = {}
    for size, reason, table, sent in model.reads(day):
        found.setdefault((sent.asset, table, reason), []).append(size)
    rows = 1_000 * 100 * measured.rows["staging_events"] / measured.rows["events"]
    widths = measured.widths["staging_events"]
    [preview] = found["staging_events", "staging_events", PREVIEW]
    assert preview == pytest.approx(rows * sum(widths.values()))
    assert min(found["events", "events", COUNT]) == pytest.approx(1_000 * 100)
    assert ("events", "staging_events", KEYS) in found
    new = found["staging_events", "staging_events", DAY]
    assert max(new) < preview / 10
    assert not any(reason == USER_KEYS for _, _, reason in found)


def test_it_prints_tables(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], measured: Measured
) -> None:
    monkeypatch.setattr("benchmarks.redshift_cost.measure", lambda plan: measured)
    main(["--events", "1", "--target", "1000000", "--rpu-hour", "0.5"])
    printed = capsys.readouterr().out
    assert "| 1,000,000 a day |" in printed
    # a run with nothing new is charged a minute of 128 RPU: 128 / 60 hours, half a dollar each
    assert "| a run with nothing new, 128 RPU: USD | 1.07 |" in printed
