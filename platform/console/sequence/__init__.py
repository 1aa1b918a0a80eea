"""The sequence diagram of a story: its spans as lanes, steps and bars on one time axis, drawn as SVG."""
