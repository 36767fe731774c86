"""Data sets: prepared once into a cache (`cache`), split (`splits`), and fed to training in blocks (`pipeline`)."""
