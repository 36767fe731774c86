"""`python -m bench` does what the console script `bench` does."""

from bench.cli.main import entry_point

if __name__ == "__main__":
    entry_point()
