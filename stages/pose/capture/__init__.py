"""From AIST++ annotations to labels in every camera's frame."""
