"""What a round of the human-feedback loop does outside the stages: closing it, and pointing the stages at it."""
