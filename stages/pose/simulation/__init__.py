"""The simulated estimator, the roles of dancers, and the packed arrays that models read."""
