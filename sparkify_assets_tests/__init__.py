"""Tests, on real parts."""

import gc

gc.set_threshold(20_000, 20, 20)  # else a tenth of their time goes into looking for garbage
