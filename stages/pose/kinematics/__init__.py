"""From points to joint angles: marker sets, segment frames, angles, the marker augmenter, TRC files."""
