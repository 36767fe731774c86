"""One trial, in a process of its own: data, model, training, evaluation, measurement."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import keras

from bench.backends.interface import Backend, load_backend
from bench.checkpoints import Keeper
from bench.data.pipeline import PREFETCHED_BLOCKS, batches
from bench.environment import Device
from bench.errors import BadModelError
from bench.evaluation import BATCH_SIZE
from bench.events import Epoch, Phase, Step
from bench.execution.job import TrialJob
from bench.execution.outcome import cost_metrics, energy_metrics, phases, score_metrics, speed_metrics
from bench.execution.profile import profile
from bench.execution.scoring import evaluate
from bench.execution.setup import Built, Images, build, load_images
from bench.measurement.cost import Cost, LayerCost, count_cost
from bench.measurement.energy import EnergyMeter
from bench.measurement.memory import peak_memory_bytes
from bench.measurement.phases import Stopwatch
from bench.measurement.sharing import SharingRecorder
from bench.measurement.throughput import waiting_share
from bench.measurement.windows import steady
from bench.records import Outcome
from bench.spec import TrialSpec
from bench.stopping import StopRequest
from bench.store import write_layers
from bench.training import Report, Training, skipped_steps, train

Send = Callable[[Any], None]
LOOK_SECONDS = 1.0


def run_trial(job: TrialJob, send: Send) -> Outcome:
    """Run the trial, leave its predictions in the attempt's folder, and return what was measured.

    Raises:
        TrialError: the trial cannot go on, with the reason for its record.
        DataError, PluginError: the images cannot be loaded, read or divided.
        StoppedError: SIGTERM came; the training's state was saved before, or nothing is lost.

    """
    stop = StopRequest()
    with stop.listening():
        return _run(job, send, stop)


def _run(job: TrialJob, send: Send, stop: StopRequest) -> Outcome:
    spec, watch, backend = job.trial.spec, Stopwatch(), load_backend(job.trial.spec.backend)
    keeper = Keeper(
        job.checkpoint, job.checkpoint_key, job.checkpoint_seconds, send=send, stop=stop, phases=watch.seconds
    )
    send(Phase("loading"))
    _prepare_process(spec, job.device, backend)
    with watch.phase("data"):
        images = load_images(job)
    send(Phase("building"))
    with watch.phase("build"), backend.replicated(spec.devices):
        built = build(job, images, backend)
    send(Phase("training"))
    sharing, meter = SharingRecorder(job.device.uuid), EnergyMeter(job.device.uuid)
    sharing.start()
    meter.start()
    reporter = _reporter(send, sharing, meter)
    trained = train(built.steps, built.schedule, images.training, images.validation, reporter, keeper=keeper)
    energy, shared = meter.stop(), sharing.stop()
    speed = steady(trained.blocks)
    built.steps.finish()
    skipped = skipped_steps(built.optimizer, trained.steps)
    send(Phase("evaluating"))
    with watch.phase("evaluation"):
        evaluation = None if spec.tuning else evaluate(job, built.steps, images.test)
    peak_memory = peak_memory_bytes() if job.device.kind == "CPU" else backend.peak_memory_bytes()
    cost, profiled = _count(built.model, job), {}
    if job.full:
        send(Phase("measuring"))
        with watch.phase("profile"):
            sample = next(batches(images.test, job.trial.prepared.info.image_shape, BATCH_SIZE))
            sharing.start()
            profiled = profile(built.model, built.steps, images.training, sample)
            profiled["profile_notes"] += sharing.stop().notes
            profiled["input_wait_share"] = waiting_share(
                speed.mean_images_per_second, profiled["compute_images_per_second"]
            )
            write_layers(job.folder, cost.layers)
    metrics = {
        **score_metrics(evaluation, trained),
        **speed_metrics(speed, trained, shared),
        **energy_metrics(energy, trained, spec.devices),
        **cost_metrics(cost, built.model),
        "peak_memory_bytes": peak_memory,
        **profiled,
    }
    return Outcome(
        metrics,
        phases(watch, speed, trained),
        _resolved(job, images, built, trained, backend) | {"skipped_steps": skipped},
    )


def _prepare_process(spec: TrialSpec, device: Device, backend: Backend) -> None:
    backend.prepare_process(device, spec.devices)
    keras.config.set_image_data_format("channels_last")  # whatever the user's keras.json says
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_dtype_policy(spec.precision)
    keras.utils.set_random_seed(spec.seed)


def _reporter(send: Send, *watched: SharingRecorder | EnergyMeter) -> Report:
    """Send on everything, write each epoch into the trial's log, and look at what is watched: about once a second.

    Between steps, since a GPU that waits for the next epoch lowers no clocks.
    """
    looked = time.monotonic()

    def report(event: Step | Epoch) -> None:
        nonlocal looked
        if isinstance(event, Epoch):
            print(event.line(), flush=True)
        elif time.monotonic() - looked > LOOK_SECONDS:
            looked = time.monotonic()
            for each in watched:
                each.sample()
        send(event)

    return report


def _count(model: keras.Model, job: TrialJob) -> Cost:
    """Return what the model costs; one unknown layer where the model cannot be called on a placeholder."""
    try:
        return count_cost(model, job.trial.prepared.info.image_shape)
    except BadModelError as error:
        print(f"the cost cannot be counted: {error}", flush=True)
        return Cost((LayerCost(model.name, type(model).__name__, (), 0, None, None),))


def _resolved(job: TrialJob, images: Images, built: Built, trained: Training, backend: Backend) -> dict[str, Any]:
    info, tuning = job.trial.prepared.info, built.steps.tuning
    return {
        "device": job.device.kind,
        "device_name": job.device.name,
        "devices": job.trial.spec.devices,
        "precision": job.trial.spec.precision,
        "jit_compile": tuning.jit_compile,
        "steps_per_block": tuning.steps_per_block,
        "steps_per_execution": tuning.steps_per_execution,
        "prefetched_blocks": PREFETCHED_BLOCKS,
        "images_on_device": images.training.resident,
        "epochs": trained.epochs,
        "steps": trained.steps,
        "continued_at_steps": trained.past.continued_at,
        "training_images": len(images.training.subset),
        "validation_images": len(images.validation) if images.validation else 0,
        "test_images": len(images.test),
        "threads": backend.threads(),
        "channel_mean": info.channel_mean,
        "channel_std": info.channel_std,
        "tf32": job.device.kind == "GPU" and backend.uses_tf32(),
        "matmul_peak_flops": job.peak_flops,
    }
