"""Self-contained HTML pages: elements, style, charts and drawings as inline SVG, wording of verdicts."""
