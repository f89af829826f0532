"""The network that regresses the points directly: size, layers, losses, training, and from films to points."""
