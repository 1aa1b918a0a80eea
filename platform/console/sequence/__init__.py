"""The sequence diagram of a story: its spans as lifelines, steps and bars on one time axis, drawn as SVG."""
