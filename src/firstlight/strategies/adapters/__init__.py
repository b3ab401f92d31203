"""Other people's optimisers behind our port, to compare with and for whoever loves them; each in an extra."""
