"""Ceph lane: nineteen landmarks on lateral films, and a model that learns from its reviewers."""
