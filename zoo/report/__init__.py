"""What a run looked like: its report.json read back, and put into words."""
