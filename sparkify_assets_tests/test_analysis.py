"""The worked questions of `sql/analysis/`: right on DuckDB as it is, and the same on Redshift."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from benchmarks import simulator
from sparkify_assets.definitions import SQL
from sparkify_assets_tests import star
from sparkify_assets_tests.platform import Platform, RedshiftPlatform, failure_of

QUESTIONS = sorted(SQL.glob("analysis/*.sql"))
OLD_QUERY = (
    "SELECT s.artist_id, s.song_id, s.user_id, count(*) FROM songplays s "
    "INNER JOIN time t ON s.start_time = t.start_time WHERE t.month = 11 "
    "GROUP BY artist_id, song_id, user_id"
)
Rows = list[tuple[Any, ...]]
Records = list[star.Record]


def most(rows: Rows, count: str | int, *then: int, limit: int = 10) -> Rows:
    """The rows with the largest value in a column, then by others."""
    return sorted(rows, key=lambda r: (-r[count], *(r[i] for i in then)))[:limit]  # type: ignore[index]


def the_old_scripts_query(events: Records, catalogue: Records) -> Rows:
    november = [p for p in star.songplays(events, catalogue) if p[1].month == 11]
    groups = star.grouped(november, lambda p: (p[5], p[4], p[2]))
    return [(*key, len(plays)) for key, plays in groups.items()]


def what_do_paying_users_play(events: Records, catalogue: Records) -> Rows:
    paid = [p for p in star.songplays(events, catalogue) if p[3] == "paid"]
    songs = star.grouped(paid, lambda p: p[10:12])
    return most(
        [(*song, len(plays), star.listeners(plays)) for song, plays in songs.items()], 2, 0, 1
    )


def when_do_people_listen(events: Records, catalogue: Records) -> Rows:
    hours = star.grouped(star.songplays(events, catalogue), lambda p: p[1].hour)
    return most([(hour, len(plays)) for hour, plays in hours.items()], 1, 0, limit=24)


def who_listens_most(events: Records, catalogue: Records) -> Rows:
    users = {user[0]: user for user in star.users(events)}
    rows = []
    for user, plays in star.grouped(star.songplays(events, catalogue), lambda p: p[2]).items():
        number, first, last, _, level = users[user]
        songs, days = {p[10:12] for p in plays}, {p[1].date() for p in plays}
        rows.append((number, first, last, level, len(plays), len(songs), len(days)))
    return most(rows, 4, 0)


def how_long_are_sessions(events: Records, catalogue: Records) -> Rows:
    known = [s for s in star.sessions(events) if s[4]]
    return most(
        [
            (
                device,
                len(sessions),
                pytest.approx(sum(s[7] for s in sessions) / len(sessions) / 60),
                pytest.approx(sum(s[9] for s in sessions) / len(sessions)),
            )
            for device, sessions in star.grouped(known, lambda s: s[4]).items()
        ],
        1,
        0,
    )


def who_upgrades(events: Records, catalogue: Records) -> Rows:
    users = {user[0]: user for user in star.users(events)}
    plays = star.grouped(star.songplays(events, catalogue), lambda p: p[2])
    rows = []
    for user, stretches in star.grouped(star.user_levels(events), lambda s: s[0]).items():
        first, *later = sorted(stretches, key=lambda s: s[2])
        upgrades = [s[2] for s in later if s[1] == "paid"]
        if upgrades:
            before = sum(play[1] < upgrades[0] for play in plays.get(user, []))
            rows.append((user, *users[user][1:3], upgrades[0], before))
        assert first[1] in ("free", "paid")
    return sorted(rows, key=lambda r: (r[3], r[0]))


def who_cancels(events: Records, catalogue: Records) -> Rows:
    rows = []
    users = star.grouped(star.user_activity(events), lambda u: (u[4], u[-1] is not None))
    for group, members in sorted(users.items()):
        days, plays, up, down, adverts = (sum(u[i] for u in members) for i in (6, 7, 10, 11, 14))
        means = [days / len(members), plays / days]
        means += [100 * value / plays for value in (up, down, adverts)]
        rows.append((*group, len(members), *map(pytest.approx, means)))
    return rows


def what_does_the_catalogue_lack(events: Records, catalogue: Records) -> Rows:
    total = len(star.plays_of(events))
    lacking = [s for s in star.most_played_songs(events, catalogue) if not s[6]]
    rows = [(*s[:4], pytest.approx(100 * s[3] / total)) for s in lacking]
    return sorted(rows, key=lambda r: r[:3])[:10]


ANSWERS: dict[str, Callable[[Records, Records], Rows]] = {
    answer.__name__: answer
    for answer in (
        the_old_scripts_query,
        what_do_paying_users_play,
        when_do_people_listen,
        who_listens_most,
        how_long_are_sessions,
        who_cancels,
        who_upgrades,
        what_does_the_catalogue_lack,
    )
}


def ask(platform: Platform, question: str) -> Rows:
    rows = platform.rows((SQL / "analysis" / f"{question}.sql").read_text(encoding="utf-8"))
    if question == "the_old_scripts_query":  # in no order
        rows = sorted(rows, key=repr)
    return [tuple(int(v) if isinstance(v, Decimal) else v for v in row) for row in rows]


def test_every_question_has_an_answer() -> None:
    assert {path.stem for path in QUESTIONS} == ANSWERS.keys()
    assert all(path.read_text(encoding="utf-8").startswith("-- ") for path in QUESTIONS)


def test_the_old_query_is_unchanged() -> None:
    text = (SQL / "analysis" / "the_old_scripts_query.sql").read_text(encoding="utf-8")
    assert text.endswith(f"\n{OLD_QUERY};\n")


@pytest.mark.parametrize("question", ANSWERS)
def test_answers_on_the_sample(
    sample: Platform, events: Records, catalogue: Records, question: str
) -> None:
    """By a plain connection, without any setting: as an analyst asks."""
    expected = ANSWERS[question](events, catalogue)
    if question == "the_old_scripts_query":
        expected = sorted(expected, key=repr)
    assert len(expected) > 1
    assert ask(sample, question) == expected


def test_known_answers_on_the_real_files(real: Platform) -> None:
    assert [row[:2] for row in ask(real, "when_do_people_listen")[:3]] == [
        (16, 542),
        (18, 498),
        (17, 494),
    ]
    assert ask(real, "what_does_the_catalogue_lack")[1][1:4] == ("Undo", "Björk", 28)
    assert 15 in {row[0] for row in ask(real, "who_upgrades")}


def test_both_engines_answer_alike(redshift: RedshiftPlatform, tmp_path_factory: Any) -> None:
    embedded = Platform(tmp_path_factory.mktemp("embedded"))
    simulator.write_song_files(embedded.song_data, simulator.Plan(songs=200))
    simulator.write_event_files(embedded.log_data, simulator.Plan(events=1_500))
    result = embedded.run()
    assert result.success, failure_of(result)
    redshift.copy_tables_of(embedded)
    for question in ANSWERS:
        answer = ask(embedded, question)
        assert answer
        assert ask(redshift, question) == answer, question
