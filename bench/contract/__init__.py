"""What every plugin must keep to, as checks that yield findings: the tests run them, and so does `bench check`."""
