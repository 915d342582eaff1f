"""What users might build instead, each the seven tables of the old star made from the same files.

    python -m benchmarks.contenders script|polars|pyspark|postgres DATA OUT

DATA holds song_data/ and log_data/. OUT gets a file `star.duckdb`, folders of Parquet files, or is
the socket of a PostgreSQL server. They trust the files: no record is accounted for, no key is
proved, no text is repaired, and each run makes everything anew. dbt is in `dbt_project.py`.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

EVENTS = {
    **dict.fromkeys(("artist", "auth", "firstName", "gender", "lastName", "level"), "VARCHAR"),
    **dict.fromkeys(("location", "method", "page", "song", "userAgent", "userId"), "VARCHAR"),
    **dict.fromkeys(("itemInSession", "sessionId", "status", "ts"), "BIGINT"),
    **dict.fromkeys(("length", "registration"), "DOUBLE"),
}
SONGS = {
    **dict.fromkeys(("artist_id", "artist_location", "artist_name", "song_id", "title"), "VARCHAR"),
    **dict.fromkeys(("num_songs", "year"), "BIGINT"),
    **dict.fromkeys(("artist_latitude", "artist_longitude", "duration"), "DOUBLE"),
}
STAGED = {"staging_events": EVENTS, "staging_songs": SONGS}


def _first(columns: str, source: str, key: str, order: str) -> str:
    """The rows of the source that come first among those with their key."""
    number = f"ROW_NUMBER() OVER (PARTITION BY {key} ORDER BY {order}) AS preference"
    return f"SELECT {columns} FROM (SELECT *, {number} FROM {source}) AS r WHERE preference = 1"


STAR = {  # the same for DuckDB, PostgreSQL and Spark
    "users": _first(
        "userId AS user_id, firstName AS first_name, lastName AS last_name, gender, level",
        "staging_events WHERE userId IS NOT NULL",
        "userId",
        "ts DESC, sessionId DESC, itemInSession DESC",
    ),
    "songs": _first(
        "song_id, title, artist_id, NULLIF(year, 0) AS year, duration",
        "staging_songs",
        "song_id",
        "artist_id, title, duration, year DESC",
    ),
    "artists": _first(
        "artist_id, artist_name AS name, artist_location AS location, "
        "artist_latitude AS latitude, artist_longitude AS longitude",
        "staging_songs",
        "artist_id",
        "CASE WHEN artist_latitude IS NULL THEN 1 ELSE 0 END, artist_name, artist_location",
    ),
    "time": """
        SELECT ts AS start_time, EXTRACT(HOUR FROM ts) AS hour, EXTRACT(DAY FROM ts) AS day,
            EXTRACT(WEEK FROM ts) AS week, EXTRACT(MONTH FROM ts) AS month,
            EXTRACT(YEAR FROM ts) AS year, EXTRACT(DOW FROM ts) AS weekday
        FROM (SELECT DISTINCT ts FROM staging_events WHERE page = 'NextSong') AS play""",
    "songplays": """
        WITH candidates AS (
            SELECT song_id, artist_id, TRIM(title) AS title, TRIM(artist_name) AS artist_name,
                duration,
                COUNT(*) OVER (PARTITION BY TRIM(title), TRIM(artist_name)) AS alike
            FROM staging_songs
        ),
        nearest AS (
            SELECT e.sessionId, e.itemInSession, c.song_id, c.artist_id, ROW_NUMBER() OVER (
                PARTITION BY e.sessionId, e.itemInSession
                ORDER BY ABS(c.duration - e.length), c.song_id
            ) AS nearness
            FROM staging_events AS e
            JOIN candidates AS c
                ON TRIM(e.song) = c.title AND TRIM(e.artist) = c.artist_name AND c.alike > 1
            WHERE e.page = 'NextSong'
        )
        SELECT e.sessionId || '-' || e.itemInSession AS songplay_id, e.ts AS start_time,
            e.userId AS user_id, e.level, COALESCE(o.song_id, n.song_id) AS song_id,
            COALESCE(o.artist_id, n.artist_id) AS artist_id, e.sessionId AS session_id, e.location,
            e.userAgent AS user_agent
        FROM staging_events AS e
        LEFT JOIN candidates AS o
            ON TRIM(e.song) = o.title AND TRIM(e.artist) = o.artist_name AND o.alike = 1
        LEFT JOIN nearest AS n ON e.sessionId = n.sessionId AND e.itemInSession = n.itemInSession
            AND n.nearness = 1
        WHERE e.page = 'NextSong'""",
}


def blocks(folder: Path) -> Iterator[bytes]:
    """The bytes of all files of a folder, each ended by a newline."""
    for path in folder.rglob("*.json"):
        with path.open("rb", buffering=0) as file:
            while block := file.read(1 << 16):
                yield block
        yield b"\n"


def script(data: Path, out: Path) -> None:
    """The limit: DuckDB as fast as it goes, song files joined into one."""
    import duckdb

    star = out / "star.duckdb"
    star.unlink(missing_ok=True)
    memory = Path("/dev/shm")
    with (
        TemporaryDirectory(dir=memory if memory.is_dir() else None) as name,
        duckdb.connect(star, config={"preserve_insertion_order": False}) as connection,
    ):
        songs = Path(name, "songs.ndjson")
        with songs.open("wb") as file:
            file.writelines(blocks(data / "song_data"))
        typed = "* REPLACE (epoch_ms(ts) AS ts, CAST(NULLIF(userId, '') AS BIGINT) AS userId)"
        for table, what, files in (
            ("staging_events", typed, f"{data}/log_data/**/*.json"),
            ("staging_songs", "*", str(songs)),
        ):
            connection.execute(
                f"CREATE TABLE {table} AS SELECT {what} FROM read_json("
                "$files, columns = $columns, format = 'newline_delimited')",
                {"files": files, "columns": STAGED[table]},
            )
        for table, select in STAR.items():
            connection.execute(f"CREATE TABLE {table} AS {select}")


def polars(data: Path, out: Path) -> None:
    """Polars, which has no file of its own: Parquet."""
    import polars as pl

    types = {"VARCHAR": pl.String, "BIGINT": pl.Int64, "DOUBLE": pl.Float64}
    events, songs = (
        pl.read_ndjson(
            b"".join(blocks(data / folder)), schema={k: types[v] for k, v in columns.items()}
        )
        for folder, columns in (("log_data", EVENTS), ("song_data", SONGS))
    )
    events = events.with_columns(
        pl.col("ts").cast(pl.Datetime("ms")), pl.col("userId").cast(pl.Int64, strict=False)
    )
    plays = events.filter(pl.col("page") == "NextSong").with_columns(
        pl.col("song", "artist").str.strip_chars(" ")
    )
    candidates = songs.select(
        "song_id", "artist_id", "duration", song=pl.col("title").str.strip_chars(" "),
        artist=pl.col("artist_name").str.strip_chars(" "),
    )  # fmt: skip
    event = ["sessionId", "itemInSession"]
    matches = (
        plays.select(*event, "song", "artist", "length")
        .join(candidates, on=["song", "artist"])
        .sort((pl.col("duration") - pl.col("length")).abs(), "song_id")
        .unique(event, keep="first", maintain_order=True)
        .select(*event, "song_id", "artist_id")
    )
    start = pl.col("ts").dt
    tables = {
        "staging_events": events,
        "staging_songs": songs,
        "users": events.filter(pl.col("userId").is_not_null())
        .sort("ts", *event, descending=True)
        .unique("userId", keep="first", maintain_order=True)
        .select("userId", "firstName", "lastName", "gender", "level"),
        "songs": songs.sort("artist_id", "title", "duration")
        .unique("song_id", keep="first", maintain_order=True)
        .select("song_id", "title", "artist_id", "year", "duration"),
        "artists": songs.sort(pl.col("artist_latitude").is_null(), "artist_name")
        .unique("artist_id", keep="first", maintain_order=True)
        .select("artist_id", "^artist_(name|location|latitude|longitude)$"),
        "time": plays.select("ts")
        .unique()
        .with_columns(
            hour=start.hour(), day=start.day(), week=start.week(), month=start.month(),
            year=start.year(), weekday=start.weekday(),
        ),
        "songplays": plays.join(matches, on=event, how="left").select(
            *event, "ts", "userId", "level", "song_id", "artist_id", "location", "userAgent"
        ),
    }  # fmt: skip
    for table, frame in tables.items():
        (out / table).mkdir(parents=True, exist_ok=True)
        frame.write_parquet(out / table / "all.parquet")


def pyspark(data: Path, out: Path) -> None:
    """Spark on this machine, with a schema, two cores and Parquet."""
    from pyspark.sql import SparkSession

    settings = {
        "spark.ui.enabled": "false",
        "spark.driver.memory": "8g",
        "spark.sql.shuffle.partitions": "4",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.legacy.timeParserPolicy": "CORRECTED",
    }
    builder: Any = SparkSession.builder
    spark = builder.master("local[2]").config(map=settings).getOrCreate()
    gateway = spark.sparkContext._gateway
    typed = "* EXCEPT (ts, userId), timestamp_millis(ts) AS ts, "
    typed += "CAST(NULLIF(userId, '') AS BIGINT) AS userId"

    def keep(table: str, frame: Any) -> None:
        frame.write.mode("overwrite").parquet(str(out / table))
        spark.read.parquet(str(out / table)).createOrReplaceTempView(table)

    for table, folder, what in (
        ("staging_events", "log_data", typed),
        ("staging_songs", "song_data", "*"),
    ):
        schema = ", ".join(f"{k} {v}" for k, v in STAGED[table].items()).replace(
            "VARCHAR", "STRING"
        )
        reader = spark.read.schema(schema).option("recursiveFileLookup", "true")
        reader.option("pathGlobFilter", "*.json").json(str(data / folder)).createTempView("read_")
        keep(table, spark.sql(f"SELECT {what} FROM read_"))
        spark.catalog.dropTempView("read_")
    for table, select in STAR.items():
        keep(table, spark.sql(select))
    spark.stop()
    gateway.shutdown()
    gateway.proc.stdin.close()
    gateway.proc.wait()  # so that its memory counts as this process's


def postgres(data: Path, out: Path) -> None:
    """The old scripts' way: COPY into staging tables, then INSERT ... SELECT."""
    from sparkify_assets_tests.redshift_postgres import OBSERVER, Backend

    kinds = {"VARCHAR": "text", "BIGINT": "bigint", "DOUBLE": "double precision"}
    known = "WHERE record IS NOT NULL"  # a blank line is null
    special = {
        "ts": "to_timestamp((record->>'ts')::bigint / 1000.0) AT TIME ZONE 'UTC'",
        "userId": "NULLIF(record->>'userId', '')::bigint",
    }
    with Backend(out, "dev", OBSERVER) as session:
        list(session.answer())
        for table, folder in (("staging_events", "log_data"), ("staging_songs", "song_data")):
            session.value(f"DROP TABLE IF EXISTS {table}; DROP TABLE IF EXISTS landed")
            session.value("CREATE UNLOGGED TABLE landed (record jsonb)")
            # a CSV with a quote and a delimiter that never occur: each line is one value
            copy = r"COPY landed FROM STDIN (FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02')"
            session.load(copy, blocks(data / folder))
            typed = {
                k: special.get(k) or f"(record->>'{k}')::{kinds[v]}"
                for k, v in STAGED[table].items()
            }
            columns = ", ".join(f"{value} AS {key}" for key, value in typed.items())
            session.value(f"CREATE TABLE {table} AS SELECT {columns} FROM landed {known}")
            session.value(f"DROP TABLE landed; ANALYZE {table}")
        for table, select in STAR.items():
            session.value(f"DROP TABLE IF EXISTS {table}; CREATE TABLE {table} AS {select}")


CONTENDERS: dict[str, Callable[[Path, Path], None]] = {
    "script": script,
    "polars": polars,
    "pyspark": pyspark,
    "postgres": postgres,
}

if __name__ == "__main__":
    contender, data_folder, out_folder = sys.argv[1:]
    CONTENDERS[contender](Path(data_folder), Path(out_folder))
