"""Where photographs come from: files and how they are decoded, published archives, images rendered from a seed."""
