"""A network that smooths each coordinate over time alone: a floor that sees time, and no body."""
