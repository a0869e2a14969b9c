"""`zoo verify`: what a run or a checkpoint says of itself, checked again from the files."""
