"""What runs by itself.

Three things start runs without anybody: a sensor that sees new files, Dagster's own for tables
whose file of `sql/` changed, and a daily schedule. They are off until somebody turns them on, in
the UI or by SPARKIFY_AUTOMATION. Who is told how a run ended is the business of `alerts.py`.
"""

import hashlib
from typing import Any

import dagster as dg
from dagster._core.storage.dagster_run import IN_PROGRESS_RUN_STATUSES

from sparkify_assets.errors import SparkifyError
from sparkify_assets.jobs import refresh
from sparkify_assets.settings import Settings
from sparkify_assets.sources.base import Source

LOOK_SECONDS = 15  # from one look at the sources to the next
SENSOR_STATUS = {True: dg.DefaultSensorStatus.RUNNING, False: dg.DefaultSensorStatus.STOPPED}
# what died before it was queued or started keeps NOT_STARTED for ever, and is not waited for
UNFINISHED = dg.RunsFilter(
    job_name="refresh", statuses=[*IN_PROGRESS_RUN_STATUSES, dg.DagsterRunStatus.QUEUED]
)

_if = dg.AutomationCondition
_changed: dg.AutomationCondition[Any] = _if.code_version_changed() | _if.any_deps_updated()
UPSTREAM_CHANGED = (  # then a derived table is made again
    _changed.since_last_handled()
    & ~_if.any_deps_missing()
    & ~_if.any_deps_in_progress()
    & ~_if.in_progress()
)


def new_files(sources: dict[str, Source], *, is_on: bool) -> dg.SensorDefinition:
    """Refreshes when files are new or changed, and two looks in a row have seen the same ones.

    Its cursor is the fingerprint of the listing that was last refreshed, and of the last one seen.
    """

    @dg.sensor(
        name="new_files",
        job=refresh,
        minimum_interval_seconds=LOOK_SECONDS,
        default_status=SENSOR_STATUS[is_on],
        description="Refreshes when files are new or changed and have settled.",
    )
    def look(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        refreshed, _, seen = (context.cursor or "").partition(" ")
        try:
            listed = [
                sorted((item.uri, item.version) for item in source.objects())
                for source in sources.values()
            ]
        except SparkifyError as error:
            return dg.SkipReason(f"Nothing is refreshed, and the next look comes soon. {error}")
        found = hashlib.sha256(repr(listed).encode()).hexdigest()[:16]
        if found == refreshed:
            return dg.SkipReason("No file is new or changed.")
        context.update_cursor(f"{refreshed} {found}")
        if found != seen:
            return dg.SkipReason("Files are new or changed. They may not be complete yet.")
        if context.instance.get_runs_count(UNFINISHED):
            return dg.SkipReason(
                "Files are new or changed. A refresh is on its way, and has to end first."
            )
        context.update_cursor(f"{found} {found}")
        return dg.RunRequest()

    return look


def daily_refresh(settings: Settings) -> dg.ScheduleDefinition:
    """Refreshes once a day, whatever the sensor has seen.

    Raises:
        SparkifyError: the time or its zone does not exist.
    """
    status = dg.DefaultScheduleStatus
    try:

        @dg.schedule(
            job=refresh,
            cron_schedule=settings.schedule,
            execution_timezone=settings.timezone,
            default_status=status.RUNNING if settings.automation else status.STOPPED,
            description="Refreshes once a day, whatever the sensor new_files has seen.",
        )
        def daily_refresh(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
            if context.instance.get_runs_count(UNFINISHED):
                return dg.SkipReason("A refresh is on its way already.")
            return dg.RunRequest()

    except dg.DagsterInvalidDefinitionError:
        raise SparkifyError(
            f"Wrong settings: SPARKIFY_SCHEDULE={settings.schedule} in SPARKIFY_TIMEZONE="
            f"{settings.timezone} is no time of day. Set, for example, 0 6 * * * and Europe/Berlin."
        ) from None
    return daily_refresh


def changed_tables(*, is_on: bool) -> dg.AutomationConditionSensorDefinition:
    """Makes tables again whose file of `sql/` changed, with all that is made from them."""
    return dg.AutomationConditionSensorDefinition(
        "changed_tables",
        target=dg.AssetSelection.all(),
        default_status=SENSOR_STATUS[is_on],
        description="Makes tables again whose file of sql/ changed, with what is made from them.",
    )
