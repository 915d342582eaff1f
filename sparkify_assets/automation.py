"""Automatic runs: a sensor for new files, one for changed SQL files, and a daily schedule.

All are off until turned on in the UI or by SPARKIFY_AUTOMATION. For alerts see `alerts.py`.
"""

import hashlib

import dagster as dg
from dagster._core.storage.dagster_run import IN_PROGRESS_RUN_STATUSES

from sparkify_assets.errors import SparkifyError
from sparkify_assets.jobs import refresh
from sparkify_assets.settings import Settings
from sparkify_assets.sources.base import Source

LOOK_SECONDS = 15  # between two listings of the sources
SENSOR_STATUS = {True: dg.DefaultSensorStatus.RUNNING, False: dg.DefaultSensorStatus.STOPPED}
# not NOT_STARTED: a run that dies before it is queued keeps that status forever
UNFINISHED = dg.RunsFilter(
    job_name="refresh", statuses=[*IN_PROGRESS_RUN_STATUSES, dg.DagsterRunStatus.QUEUED]
)

# a derived table is out of date
UPSTREAM_CHANGED = dg.AutomationCondition.eager().replace(
    "newly_missing", dg.AutomationCondition.code_version_changed()
)


def new_files(sources: dict[str, Source], *, is_on: bool) -> dg.SensorDefinition:
    """Refreshes when files are new or changed, and two listings in a row are the same.

    Its cursor holds two fingerprints: of the listing last refreshed, and of the one last seen.
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
            return dg.SkipReason(f"The sources cannot be listed; trying again soon. {error}")
        found = hashlib.sha256(repr(listed).encode()).hexdigest()[:16]
        if found == refreshed:
            return dg.SkipReason("No file is new or changed.")
        context.update_cursor(f"{refreshed} {found}")
        if found != seen:
            return dg.SkipReason("Files are new or changed. They may not be complete yet.")
        if context.instance.get_runs_count(UNFINISHED):
            return dg.SkipReason("Files are new or changed. Waiting for a refresh to end.")
        context.update_cursor(f"{found} {found}")
        return dg.RunRequest()

    return look


def daily_refresh(settings: Settings) -> dg.ScheduleDefinition:
    """Refreshes once a day, whatever the sensor has seen.

    Raises:
        SparkifyError: the cron expression or the time zone is invalid.
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
                return dg.SkipReason("A refresh is queued or running already.")
            return dg.RunRequest()

    except dg.DagsterInvalidDefinitionError:
        raise SparkifyError(
            f"Wrong settings: SPARKIFY_SCHEDULE={settings.schedule} in SPARKIFY_TIMEZONE="
            f"{settings.timezone} is invalid. Set, for example, 0 6 * * * and Europe/Berlin."
        ) from None
    return daily_refresh


def changed_tables(*, is_on: bool) -> dg.AutomationConditionSensorDefinition:
    """Rebuilds tables whose file in `sql/` changed, and everything downstream."""
    return dg.AutomationConditionSensorDefinition(
        "changed_tables",
        target=dg.AssetSelection.all(),
        default_status=SENSOR_STATUS[is_on],
        description="Rebuilds tables whose file in sql/ changed, and everything downstream.",
    )
