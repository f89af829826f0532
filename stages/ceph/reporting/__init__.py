"""Sections of the page reports/ceph.html."""
