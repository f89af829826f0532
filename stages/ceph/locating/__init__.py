"""The lane's networks: a map a landmark over the whole film, read to a fraction of a pixel."""
