"""What a lane that learns from its reviewers asks of them and hears from them: the queue and the events."""
