"""Other people's optimisers behind our port, for whoever loves them and to compare with; each in an extra of its name."""
