"""The network of a described lane: a map a landmark over the whole film, its proportions kept."""
