"""`make bench`: every bench, one after the other; a table on the screen, JSON lines in bench/results.jsonl."""

from bench import hsm, river

for bench in (hsm, river):
    bench.main()
