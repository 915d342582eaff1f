"""Sends an alert to a channel when a run fails, or a check starts to warn.

An alert names assets, checks and counts, never data, and links to the run. Dagster's daemon watches
all runs, however they were started.
"""

import json
from html import escape
from http.client import HTTPException
from logging import Logger
from urllib.request import Request, urlopen

import dagster as dg
from dagster._core.storage.asset_check_execution_record import (
    COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES,
    AssetCheckExecutionRecordStatus,
)

from sparkify_assets.failures import REASON
from sparkify_assets.formats import counted
from sparkify_assets.settings import Settings

SEND_SECONDS = 10
WATCH_SECONDS = 20
EARLIER_RUNS = 100  # searched for the previous result of a check
EVENTS = {
    dg.DagsterEventType.ASSET_CHECK_EVALUATION,
    dg.DagsterEventType.STEP_FAILURE,
    dg.DagsterEventType.RUN_FAILURE,
}


def alerts(settings: Settings) -> list[dg.SensorDefinition]:
    """The sensors that post to SPARKIFY_ALERT_WEBHOOK; none if it is not set."""
    webhook = settings.alert_webhook
    if webhook is None:
        return []

    def sensor(name: str, status: dg.DagsterRunStatus, description: str) -> dg.SensorDefinition:
        @dg.run_status_sensor(
            name=name,
            run_status=status,
            monitor_all_code_locations=True,  # runs from a command line have none
            minimum_interval_seconds=WATCH_SECONDS,
            default_status=dg.DefaultSensorStatus.RUNNING,
            description=description,
        )
        def alert(context: dg.RunStatusSensorContext) -> None:
            if text := alert_of(context.instance, context.dagster_run, settings.ui_url.rstrip("/")):
                send(webhook.get_secret_value(), text, context.log)

        return alert

    return [
        sensor("failed_runs", dg.DagsterRunStatus.FAILURE, "Sends an alert for each failed run."),
        sensor("new_warnings", dg.DagsterRunStatus.SUCCESS, "Alerts when a check starts to warn."),
    ]


def alert_of(instance: dg.DagsterInstance, run: dg.DagsterRun, ui_url: str) -> str | None:
    """The text of the alert for a finished run; None if it needs none."""
    failed = run.status == dg.DagsterRunStatus.FAILURE
    found, ends = [], []
    for log in instance.all_logs(run.run_id, of_type=EVENTS):
        event = log.get_dagster_event()
        if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            check = event.asset_check_evaluation_data
            is_error = check.severity == dg.AssetCheckSeverity.ERROR
            if not check.passed and (is_error or _warns_first(instance, check, run.run_id)):
                found.append(_told(check))
        elif event.event_type == dg.DagsterEventType.STEP_FAILURE:
            failure = event.step_failure_data.user_failure_data
            reason = failure.metadata.get(REASON) if failure else None
            ends.append(str(reason.value) if reason else f"{event.step_key} failed.")
        else:
            ends = ends or [f"{event.message} What was published before stays as it was."]
    if not failed and not found:
        return None
    job = "a run of some assets" if run.job_name.startswith("__") else f"the job {run.job_name}"
    title = "failed" if failed else "succeeded, with a new warning"
    lines = [f"Sparkify: {job} {title}.", *found, *ends]
    return "\n".join([escape("\n- ".join(lines), quote=False), f"{ui_url}/runs/{run.run_id}"])


def _told(check: dg.AssetCheckEvaluation) -> str:
    counts = (
        counted(value.value or 0, name.replace("_", " ").removesuffix("s"))
        for name, value in check.metadata.items()
        if isinstance(value, dg.IntMetadataValue)
    )
    said = check.description or ", ".join(counts)
    return f"{check.asset_key.to_user_string()}: check {check.check_name}: {said}"


def _warns_first(instance: dg.DagsterInstance, check: dg.AssetCheckEvaluation, run_id: str) -> bool:
    """Whether the check passed the last time before this run, or had never run."""
    completed = set(COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES)
    history = instance.event_log_storage.get_asset_check_execution_history(
        check.asset_check_key, limit=EARLIER_RUNS, status=completed
    )
    runs = [record.run_id for record in history]
    earlier = history[runs.index(run_id) + 1 :] if run_id in runs else []
    return not earlier or earlier[0].status == AssetCheckExecutionRecordStatus.SUCCEEDED


def send(webhook: str, text: str, log: Logger) -> None:
    """Posts a text in the format of Slack, Teams and Mattermost; logs it if that fails."""
    body = json.dumps({"text": text}).encode()
    request = Request(webhook, body, {"Content-Type": "application/json"})  # noqa: S310
    try:
        with urlopen(request, timeout=SEND_SECONDS):  # noqa: S310
            log.info("The alert was sent.")
    except (OSError, HTTPException, ValueError) as error:  # its text may contain the secret URL
        kind = getattr(error, "code", None) or type(error).__name__
        log.warning(f"SPARKIFY_ALERT_WEBHOOK did not accept an alert ({kind}): {text}")
