"""The network that regresses the points directly: its size, layers, loss and the way from films to points."""
