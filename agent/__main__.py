"""`python -m agent` is `warden`."""

from agent.cli import main

main()
