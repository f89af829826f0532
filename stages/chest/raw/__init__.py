"""The raw data set: what lies where, the structure behind the labels, and which films can be used."""
