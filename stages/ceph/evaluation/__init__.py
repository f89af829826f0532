"""What the evaluation of lateral films measures, and the tables that it is written in."""
