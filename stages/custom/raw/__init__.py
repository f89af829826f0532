"""Somebody's films and labels as they come: three forms of labels, found beside films of any name and size."""
