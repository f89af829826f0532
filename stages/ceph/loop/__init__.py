"""Sections of the page reports/ceph-loop.html, and what they are drawn from."""
