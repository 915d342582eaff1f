"""The exception for what a user can mend: its message says what is wrong, where, and what to do.

Anything else that is raised is a defect of this program and keeps its traceback.
"""


class SparkifyError(Exception):
    """A foreseeable mistake in the settings, the data, `sql/` or the surroundings."""
