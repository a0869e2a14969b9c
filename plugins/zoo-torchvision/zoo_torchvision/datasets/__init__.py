"""torchvision's classification datasets as components, grouped by how torchvision names their splits."""
