"""Mean-with-band curves of a comparison for TensorBoard's Custom Scalars tab."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlentropy.files import file_names
from rlentropy.intervals import Statistic, estimate, on_common_grid
from rlentropy.runs.comparable import Algorithm, Task


def write_bands(
    out: Path, tasks: Sequence[Task], statistic: Statistic, rng: np.random.Generator
) -> None:
    """A TensorBoard run for each algorithm, in a folder for each task where there are several."""
    for stale in [*out.glob("*/events.out.tfevents.*"), *out.glob("*/*/events.out.tfevents.*")]:
        stale.unlink()
        for folder in (stale.parent, stale.parent.parent):
            if folder != out and not any(folder.iterdir()):
                folder.rmdir()
    folders = file_names(task.name for task in tasks)
    for task in tasks:
        here = out if len(tasks) == 1 else out / folders[task.name]
        write_task(here, task.algorithms, statistic, rng)


def write_task(
    out: Path, algorithms: Sequence[Algorithm], statistic: Statistic, rng: np.random.Generator
) -> None:
    """One run per algorithm: <tag>/mean, /low and /high, and charts of the bands.

    The layout draws each tag of every algorithm in one chart of the Custom Scalars tab. With a
    single seed the band has no width.
    """
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    folders = file_names(a.name for a in algorithms)
    for a in algorithms:
        writer = EventFileWriter(str(out / folders[a.name]))
        shared = set.intersection(*(set(run.curves) for run in a.runs))
        tags = sorted(tag for tag in shared if tag.startswith("eval/"))
        writer.add_event(layout_event(tags, statistic))
        for tag in tags:
            steps, values = on_common_grid([run.curves[tag] for run in a.runs])
            band = estimate(values, statistic, rng)
            low, high = (np.where(np.isnan(e), band.value, e) for e in (band.low, band.high))
            for name, series in ((statistic, band.value), ("low", low), ("high", high)):
                for step, value in zip(steps, series, strict=True):
                    writer.add_event(scalar_event(f"{tag}/{name}", value, int(step)))
        writer.close()


def scalar_event(tag: str, value: float, step: int) -> Any:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    summary = Summary(value=[Summary.Value(tag=tag, simple_value=float(value))])
    return Event(wall_time=time.time(), step=step, summary=summary)


def layout_event(tags: Sequence[str], statistic: Statistic) -> Any:
    """Custom Scalars layout: one margin chart a tag."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.plugins.custom_scalar import layout_pb2, metadata

    charts = []
    for tag in tags:
        series = layout_pb2.MarginChartContent.Series(
            value=f"{tag}/{statistic}", lower=f"{tag}/low", upper=f"{tag}/high"
        )
        margin = layout_pb2.MarginChartContent(series=[series])
        charts.append(layout_pb2.Chart(title=tag, margin=margin))
    title = f"{statistic} over seeds, 95 % interval"
    layout = layout_pb2.Layout(category=[layout_pb2.Category(title=title, chart=charts)])
    tensor = TensorProto(dtype="DT_STRING", string_val=[layout.SerializeToString()])
    value = Summary.Value(
        tag=metadata.CONFIG_SUMMARY_TAG,
        tensor=tensor,
        metadata=metadata.create_summary_metadata(),
    )
    return Event(wall_time=time.time(), step=0, summary=Summary(value=[value]))
