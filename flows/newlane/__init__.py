"""`plumbline new-lane`: a lane for somebody's own landmarks, made of parts that are there already.

What it writes is text to be read and corrected: a description (data/lanes/NAME.json), a section of params.yaml and
a block of dvc.yaml. All code of the lane is stages/custom.
"""

from flows.newlane.build import build
from flows.newlane.make import made
from flows.newlane.remove import removed

__all__ = ["build", "made", "removed"]
