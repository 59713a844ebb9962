"""Side by side with what people use today, printed as ratios: ``python -m benchmarks``.

Both sides of a comparison run in turn, in one run, on one machine; a time by itself means nothing here.
"""
