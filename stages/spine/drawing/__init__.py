"""How the spine phantom is drawn: anatomy, bones, tissue, exposure, and the defects of its labels."""
