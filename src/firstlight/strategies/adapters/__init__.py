"""Other people's optimisers behind our port, for whoever loves them and for comparison; each in an extra of its name."""
