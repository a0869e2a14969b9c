"""TensorBoard for zoo: the curves of a run, and the step `look`, which draws what a network makes of images."""
