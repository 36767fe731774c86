"""From a request to records: what to run (`planning`), where (`devices`, `server`), running it (`runner`, `trial`)."""
