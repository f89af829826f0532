"""Sections of the pose page, and what they are drawn from."""
