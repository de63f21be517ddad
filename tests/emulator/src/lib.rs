//! A model emulator: plays a Juju controller, unit agents and the neighbouring charms.
