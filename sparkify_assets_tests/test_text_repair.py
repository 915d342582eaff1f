"""Repair of damaged text: kinds of damage, sound text that stays as it is, and the table of it."""

import unicodedata

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sparkify_assets.text_repair import repair
from sparkify_assets_tests import star
from sparkify_assets_tests.platform import Platform

# Letters that a song may have, none of which is itself what damage looks like.
SOUND = st.text(st.characters(categories=["L", "N", "Zs"], exclude_characters="ÂÃ"))


@pytest.mark.parametrize(
    ("damaged", "meant"),
    [
        ("BjÃ\x83Â¶rk", "Björk"),
        ("BjÃ¶rk", "Björk"),
        ("En Glad Calypso Om VÃ\x83Â¥ren (Live '62)", "En Glad Calypso Om Våren (Live '62)"),
        ("SÃ\x83Â¥ng", "Sång"),
        ("Ã¢â‚¬Å“HeroesÃ¢â‚¬\x9d", "“Heroes”"),  # by way of cp1252
        ("Ã\x83Â\x81gnes", "Ágnes"),  # a byte that cp1252 does not have
        ("lâ€™amour", "l’amour"),
        ("It\x19s \x18Over\x19", "It’s ‘Over’"),
        ("\x1cHeroes\x1d 1987\x131990", "“Heroes” 1987–1990"),
        ("Mark &amp; Lard", "Mark & Lard"),
        ("Mark &amp;amp; Lard", "Mark & Lard"),
        ("&#65;&#x42;&eacute;", "ABé"),
        ('<a href="http://x.com/" onmousedown=\'f("Leeds")\'>Leeds</a>', "Leeds"),
        ("&lt;b&gt;Loud&lt;/b&gt;", "Loud"),
        ("<br/>", ""),
        ("<script>alert(1)</script>", "alert(1)"),
        (" Cafe&#32;", "Cafe"),
        ("Bj\uffffrk \ufffe", "Bj\ufffdrk \ufffd"),
    ],
)
def test_damaged_text(damaged: str, meant: str) -> None:
    assert repair(damaged) == meant
    assert repair(meant) == meant


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Björk",
        "Motörhead",
        "Ágnes Török",
        "蛍光バンド",
        "Æther ÆÐ",
        "Ñandú",
        "“Heroes”",
        "Caf\ufffd Noir",  # nobody knows what it was
        "I <3 You",
        "<Untitled>",
        "1 < 2 > 0",
        "R&B",
        "Rhythm&copy",
        "Drum&notes; more",
        "AT&T; and others",
        "Vampire&",
        "Tab\tStop",
        "Left|Right",
        "🎵",
    ],
)
def test_sound_text_stays(text: str) -> None:
    assert repair(text) == text


@given(SOUND, st.integers(0, 3), st.sampled_from(["latin-1", "cp1252"]))
def test_encoded_again_and_again(text: str, times: int, encoding: str) -> None:
    meant = text.strip(" ")
    damaged = meant
    try:
        for _ in range(times):
            damaged = damaged.encode().decode(encoding)
    except UnicodeDecodeError:  # cp1252 lacks five bytes
        return
    assume(repair(meant) == meant)
    assert repair(damaged) == meant


@given(st.text(max_size=60) | st.text("<>/&;#abx19 Ã¢\x83\x19", max_size=60))
def test_repairing_again_changes_nothing(text: str) -> None:
    repaired = repair(text)
    assert repair(repaired) == repaired
    assert repaired == repaired.strip(" ")


def test_a_repair_fits_where_the_text_did() -> None:
    assert repair("\x19" * 341) == "’" * 341
    too_long = "\x19" * 1_024  # three bytes each
    assert repair(too_long) == too_long


def test_the_table_holds_what_is_damaged(platform: Platform) -> None:
    platform.write_songs(
        [
            {"title": "Sound", "artist_name": "Björk", "artist_location": "<b>Oslo</b>"},
            {"song_id": "SO2", "title": "It\x19s", "artist_name": " A &amp; B "},
        ]
    )
    platform.write_events(
        [
            {"song": "It\x19s", "artist": "BjÃ¶rk", "location": "ZÃ¼rich"},
            {"song": "Plain", "firstName": "ZoÃ«", "lastName": "Li&auml;", "itemInSession": 7},
            {"song": "R&B; <3", "page": "Home", "ts": 1541109999796},
        ]
    )
    result = platform.make("songplays")
    assert result.success
    assert platform.rows("SELECT * FROM repaired_text ORDER BY ALL") == [
        ("<b>Oslo</b>", "Oslo"),
        ("A &amp; B", "A & B"),
        ("BjÃ¶rk", "Björk"),
        ("It\x19s", "It’s"),
        ("Li&auml;", "Liä"),
        ("ZoÃ«", "Zoë"),
        ("ZÃ¼rich", "Zürich"),
    ]
    (made,) = result.asset_materializations_for_node("repaired_text")
    assert made.metadata["texts_suspect"].value == 9  # and Björk in the catalogue, and R&B; <3
    assert made.metadata["texts_damaged"].value == 7
    assert platform.rows("SELECT title FROM songs ORDER BY 1") == [("It’s",), ("Sound",)]
    assert platform.rows("SELECT location FROM artists") == [("Oslo",)]
    assert platform.rows("SELECT artist, location FROM songplays WHERE song = 'It’s'") == [
        ("Björk", "Zürich")
    ]
    assert platform.rows("SELECT raw.song FROM staging_events AS raw WHERE page = 'Home'") == [
        ("R&B; <3",)
    ]


def test_a_play_matches_by_repaired_text_on_both_sides(platform: Platform) -> None:
    platform.write_songs([{"title": "Rock &amp; Roll", "artist_name": "Motörhead"}])
    platform.write_events([{"song": "Rock & Roll", "artist": "MotÃ\x83Â¶rhead"}])
    assert platform.make("catalogue_coverage").success
    assert platform.rows("SELECT song, song_id FROM songplays") == [("Rock & Roll", "SO1")]
    assert platform.rows("SELECT matched, matched_before_repair FROM catalogue_coverage") == [
        (1, 0)
    ]


def test_all_real_texts_are_repaired(real: Platform) -> None:
    """The counts of facts about the log; what is left looks like no damage."""
    events = star.plays_of(star.records(real.log_data))
    damaged = {
        column: [e[column] for e in events if not e[column].isascii()]
        for column in ("artist", "song")
    }
    assert {c: (len(texts), len(set(texts))) for c, texts in damaged.items()} == {
        "artist": (193, 82),
        "song": (153, 113),
    }
    repaired = dict(real.rows("SELECT * FROM repaired_text"))
    for text in {*damaged["artist"], *damaged["song"]}:
        assert repaired[text] == text.encode("latin-1").decode().encode("latin-1").decode()
    for song, artist in real.rows("SELECT song, artist FROM songplays"):
        assert not [c for c in song + artist if unicodedata.category(c) == "Cc"]
        assert not {"Ã", "Â"} & set(song + artist)
