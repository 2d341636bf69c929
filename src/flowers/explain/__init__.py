"""Where a network looks, what it has learned, what fools it."""
