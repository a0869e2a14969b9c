"""`zoo compare`: two models measured on the same images, and whether their difference is more than chance."""
