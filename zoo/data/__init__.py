"""Data: from where samples lie to batches on the device."""
