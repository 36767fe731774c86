"""The compiled training and inference steps of each backend, behind one interface (`interface`).

    backend = load_backend("jax")
    steps = backend.compile_steps(model, optimizer, task, tuning)

Keras must have been imported with that backend (KERAS_BACKEND). A module here is the only place that names its library.
"""
