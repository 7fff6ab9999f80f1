"""`python -m kdpo_daemon` is `kdpo`."""

from kdpo_daemon.cli import main

main()
