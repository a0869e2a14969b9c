"""zoo's own file: metadata, save, load, inspect, diff."""
