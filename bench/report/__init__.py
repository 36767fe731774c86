"""From records to tables: `tables` builds them, `statistics` says how sure they are, `files` writes them."""
