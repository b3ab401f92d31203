"""Models as other libraries expect them."""
