"""Parts that commands share: tables and progress on a terminal, errors, options."""
