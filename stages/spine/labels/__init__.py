"""What can be wrong with a label: by its own geometry, among other labels, against planted defects."""
