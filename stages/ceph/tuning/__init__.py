"""What fine-tuning learns from: reviewed films beside films of the base."""
