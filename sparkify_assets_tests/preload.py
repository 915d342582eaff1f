"""What the process that others fork from has imported and read: all that a run needs."""

import gc

from sparkify_assets import history  # noqa: F401
from sparkify_assets.catalog import Catalog
from sparkify_assets.definitions import SQL
from sparkify_assets_tests import conftest  # noqa: F401

Catalog.load(SQL)
gc.freeze()
