"""Stages that take a second: a diamond of text files, to try the flow on."""
