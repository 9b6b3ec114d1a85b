"""All of Ray: actors, pools, and sessions that a gateway starts."""
