"""A launcher and run retention for the deployed service, with its history in PostgreSQL.

The launcher detects runs that died with their server, for example when a container restarted;
`history.Launcher` does the same for a history in files. `python -m sparkify_assets.service 90`
deletes runs older than 90 days.
"""

import sys
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster._core.storage.dagster_run import FINISHED_STATUSES
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult

from sparkify_assets.console import quiet_daemons

quiet_daemons()


class ServiceLauncher(dg.DefaultRunLauncher):
    """Starts runs in the code location's server, and asks it which of them are alive."""

    supports_check_run_worker_health = True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """FAILED if the server no longer has the run's process, otherwise RUNNING.

        Raises:
            DagsterUserCodeUnreachableError: there is no server; Dagster asks again.
        """
        client = self._get_grpc_client_for_termination(run.run_id)  # type: ignore[no-untyped-call]
        if client:
            answer = client.can_cancel_execution(CanCancelExecutionRequest(run_id=run.run_id))
            if not dg.deserialize_value(answer, CanCancelExecutionResult).can_cancel:
                return CheckRunHealthResult(WorkerStatus.FAILED, "its process has ended")
        return CheckRunHealthResult(WorkerStatus.RUNNING)


def delete_runs(instance: dg.DagsterInstance, days: float) -> int:
    """Deletes finished runs older than this, with their events; returns how many."""
    before = datetime.now(UTC) - timedelta(days=days)
    old = instance.get_runs(dg.RunsFilter(statuses=FINISHED_STATUSES, created_before=before))
    for run in old:
        instance.delete_run(run.run_id)
    return len(old)


if __name__ == "__main__":
    with dg.DagsterInstance.get() as found:
        print(f"{delete_runs(found, float(sys.argv[1]))} runs deleted")
