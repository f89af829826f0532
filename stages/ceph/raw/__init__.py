"""The raw layout of lateral films: listing, checking and reading it. `read_raw` is the way in."""

from stages.ceph.raw.inventory import RawCeph, read_raw

__all__ = ["RawCeph", "read_raw"]
