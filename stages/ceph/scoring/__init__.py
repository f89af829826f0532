"""How unsure the model is of each point: scorers behind one interface, what they are worth, and which films follow."""
