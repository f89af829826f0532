"""Stages that mostly sleep, on numbers in text files: a pipeline to kill."""
