"""Redis: publishing and receiving events, the directory of sessions, the spool on disk, erasure, alerts."""
