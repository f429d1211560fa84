#!/bin/sh
# What `make bench` runs; run.py --help tells the options.
command -v python3 >/dev/null || { echo "bench: python3 is not installed" >&2; exit 1; }
exec python3 -B "$(dirname "$0")/run.py" "$@"
