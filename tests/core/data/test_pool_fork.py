"""Workers start whatever OpenCV did before in this process."""

import subprocess
import sys

AFTER_THREADS = """
import cv2, numpy as np
from stages.core.data.pool import map_unordered
cv2.setNumThreads(4)
cv2.GaussianBlur(np.zeros((2000, 2000), np.uint8), (31, 31), 5)
print(sorted(map_unordered(abs, [-1, -2, -3, -4], 2)))
"""


def test_workers_start_after_opencv_has_used_threads() -> None:
    done = subprocess.run(
        [sys.executable, "-c", AFTER_THREADS], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[(0, 1), (1, 2), (2, 3), (3, 4)]"
