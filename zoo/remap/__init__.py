"""Rules to a plan: what `--remap` means, decided on names, dtypes and shapes. Importing this imports no torch."""
