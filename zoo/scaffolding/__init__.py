"""`zoo new`: a package for a start."""
