"""`zoo convert`: weights moved from file to file, and the networks at both ends compared."""
