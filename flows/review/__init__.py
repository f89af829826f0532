"""The review page: a local server and one page on which people accept or correct the points of a model."""
