"""The depth refiner and its linear beginnings."""
