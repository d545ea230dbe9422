"""`make bench`: every bench, one after the other; a table on the screen, JSON lines in bench/results.jsonl."""

from bench import button, campaign, hsm, interference, rewrap, river, tenants

for bench in (hsm, river, rewrap, campaign, interference, tenants, button):
    bench.main()
