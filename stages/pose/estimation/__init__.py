"""A real monocular estimator, run apart from everything else, and what the refiner does to its answers."""
