"""The Redis bus: publish, subscribe, the directory of sessions, the spool on disk, forgetting, alerts."""
