"""Data: from files and data sets to batches on the device."""
