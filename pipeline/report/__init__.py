"""What an output's rows and run records come to, as numbers: the facts that `sgl report` shows.

Nothing here knows of pages or pictures. One pass over the rows, in memory that does not grow with
them: sums by class of exit score, by time and by error, histograms, and a few whole rows.
"""
