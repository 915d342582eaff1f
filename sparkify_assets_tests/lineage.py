"""Every asset by its group, and what it is made from: written out once, for tests to compare.

A table is made from what its INSERT reads and what its REFERENCES name.
"""

MADE_FROM: dict[str, dict[str, set[str]]] = {
    "source": {"song_files": set(), "event_files": set()},
    "staging": {"staging_songs": {"song_files"}, "staging_events": {"event_files"}},
    "intermediate": {
        "repaired_text": {"staging_events", "staging_songs"},
        "catalogue": {"staging_songs", "repaired_text"},
        "events": {"staging_events", "repaired_text", "load_history"},
    },
    "star": {
        "users": {"events"},
        "time": {"events"},
        "artists": {"staging_songs", "repaired_text"},
        "songs": {"staging_songs", "artists", "repaired_text"},
        "songplays": {
            *("events", "catalogue"),
            *("users", "songs", "artists", "time"),
        },
    },
    "marts": {
        "catalogue_coverage": {"songplays", "events", "staging_songs"},
        "level_changes": {"user_levels", "user_activity"},
        "load_summary": {"load_history", "events", "staging_songs"},
        "most_played_artists": {"songplays"},
        "most_played_songs": {"songplays", "songs"},
        "newest_day": {"plays_by_day", "load_history"},
        "plays_by_day": {"songplays", "events"},
        "plays_by_hour": {"songplays"},
        "plays_by_level": {"songplays", "users"},
        "plays_by_location": {"songplays"},
        "retention_by_week": {"songplays"},
        "sessions": {"events", "users"},
        "user_activity": {"events", "songplays", "users"},
        "user_levels": {"events", "users"},
        "visits_by_device": {"sessions"},
    },
}
NOT_DRAWN = {"newest_day", "sessions", "user_activity", "user_levels"}
MADE_FROM["report"] = {"listening_report": MADE_FROM["marts"].keys() - NOT_DRAWN}

GROUPS = {group: set(assets) for group, assets in MADE_FROM.items()}
ASSETS = set().union(*GROUPS.values())

LEDGERS = {"load_history", "rejected_records"}  # no assets: written as the staging tables are
STAGING = GROUPS["staging"]
UPSTREAM = {
    asset: (names - LEDGERS) | (STAGING if names & LEDGERS else set())
    for assets in MADE_FROM.values()
    for asset, names in assets.items()
}  # assets alone
