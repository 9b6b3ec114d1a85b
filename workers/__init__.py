"""Ray actors that carry `stream` types through `model` functions, and the command line."""
