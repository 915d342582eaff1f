"""What Dagster lacks as a service, where `deploy/dagster.yaml` keeps its history in PostgreSQL.

The launcher knows which runs have died with the server that ran them, for example in a container
that was restarted; where the history is in files, `history.Launcher` does this.
`python -m sparkify_assets.service 90` deletes runs that are older than 90 days.
"""

import sys
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster._core.storage.dagster_run import FINISHED_STATUSES
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult


class ServiceLauncher(dg.DefaultRunLauncher):
    """Starts runs in the server of the code location, and asks it which of them are alive."""

    supports_check_run_worker_health = True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Whether the server still has the process of a started run; of other runs it cannot say.

        Raises:
            DagsterUserCodeUnreachableError: there is no server. Dagster asks again.
        """
        client = self._get_grpc_client_for_termination(run.run_id)  # type: ignore[no-untyped-call]
        if client:
            answer = client.can_cancel_execution(CanCancelExecutionRequest(run_id=run.run_id))
            if not dg.deserialize_value(answer, CanCancelExecutionResult).can_cancel:
                return CheckRunHealthResult(WorkerStatus.FAILED, "its process has ended")
        return CheckRunHealthResult(WorkerStatus.RUNNING)


def delete_runs(instance: dg.DagsterInstance, days: float) -> int:
    """Deletes ended runs that were created more than so many days ago, with all their events."""
    before = datetime.now(UTC) - timedelta(days=days)
    old = instance.get_runs(dg.RunsFilter(statuses=FINISHED_STATUSES, created_before=before))
    for run in old:
        instance.delete_run(run.run_id)
    return len(old)


if __name__ == "__main__":
    with dg.DagsterInstance.get() as found:
        print(f"{delete_runs(found, float(sys.argv[1]))} runs deleted")
