"""Runs Patroni (`patroni`) or its voter without a database (`voter`) as they are, but for one thing: a ttl below
20 seconds is not raised to 20, so that tests need not wait so long for a failover."""

import sys

# Patroni starts helpers that load this file again under another name.
if __name__ == "__main__":
    from patroni.config import Config

    name = "_Config__get_and_maybe_adjust_int_value"
    original = getattr(Config, name)

    def adjust(self, config, param, floor):
        return original(self, config, param, 1 if param == "ttl" else floor)

    setattr(Config, name, adjust)
    if sys.argv.pop(1) == "voter":
        from patroni.raft_controller import main
    else:
        from patroni.__main__ import main
    main()
