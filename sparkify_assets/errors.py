"""The exception for what a user can mend: its message says what is wrong, where, and what to do.

Anything else that is raised is a defect of this program and keeps its traceback.
"""

import json


class SparkifyError(Exception):
    """A foreseeable mistake in the settings, the data, `sql/` or the surroundings."""


def launch_command(asset: str, **config: object) -> str:
    """The command that materializes an asset with a run config."""
    return (
        f"dg launch --assets {asset} "
        f"--config-json '{json.dumps({'ops': {asset: {'config': config}}})}'"
    )
