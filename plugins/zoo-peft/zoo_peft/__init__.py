"""Adapters of the peft library as zoo's surgeries, steps and a freezing policy. Importing this imports no torch."""
