"""The networks that beat the regressor: a map a landmark, on the whole film and on an aligned crop."""
