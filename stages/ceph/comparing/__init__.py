"""Two models on the same films: paired differences, guardrails, and a verdict."""
