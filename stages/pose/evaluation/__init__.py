"""Judging poses against labels: what is measured of a view, and the tables that it goes into."""
