"""Side-by-side timings. Each module measures its columns interleaved in one run and writes one JSON to results/."""
