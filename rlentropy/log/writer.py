"""The shared log: scalars, figures and checkpoints of one run, as a folder or as nothing at all.

A run can be killed at any instant. The two append-only files (``metrics.jsonl`` and the TensorBoard
events) are flushed before a checkpoint, which stores their lengths and checksums; restoring cuts
them back to it, so that a resumed run writes each line once, and refuses them where they aren't
what they were. A checkpoint replaces the last one in a single rename, and says whose it is.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from rlentropy.errors import InputError, as_path, whole
from rlentropy.files import replace_file, sum_of_file, writing
from rlentropy.log.checkpoints import CURE, Checkpoint, Marks, read_checkpoint, write_checkpoint
from rlentropy.types import Film, State

CHECKPOINT_SECONDS = 30.0  # between checkpoints, where no other schedule is set


class Interrupted(KeyboardInterrupt):
    """The run was told to stop, and has saved a checkpoint."""


class Log:
    """Where a run writes. ``Log(None)`` writes nothing, for use in research code.

    Args:
        directory: the run folder, made if needed; None for no output.
        eval_every: budget units (episodes, updates, labels) between evaluations; 0 for a geometric
            schedule of about eight per decade, which suits log-log learning curves.
        checkpoint_every: budget units between checkpoints; 0 for one every 30 seconds.
    """

    def __init__(
        self, directory: str | Path | None, *, eval_every: int = 0, checkpoint_every: int = 0
    ) -> None:
        for name, value in (("eval_every", eval_every), ("checkpoint_every", checkpoint_every)):
            whole(name, value, 0)
        self.directory = None if directory is None else as_path("directory", directory)
        self.eval_every, self.checkpoint_every = eval_every, checkpoint_every
        self.saved = False  # whether this process has written a checkpoint
        self.interrupted = False  # set by a signal handler; obeyed after the next chunk
        self.on_progress: Callable[[int, int], None] = lambda done, total: None
        self.film: Callable[[], Film | None] = lambda: None  # of what the run has visited so far
        self.latest: dict[str, tuple[int, float]] = {}  # step and value of each eval/* tag
        self._metrics: IO[bytes] | None = None
        self._events: IO[bytes] | None = None
        self._records: Any = None
        self.compiling: Callable[[], float] = lambda: 0.0  # seconds of this process so far
        self._seconds = (0.0, 0.0)  # of earlier processes of this run: learning, compiling
        self._started = self._checkpointed = time.monotonic()
        # Length and CRC-32 of each file at the last checkpoint: it is cut back to it before use.
        self._marks: Marks | None = None
        self.owner: dict[str, Any] = {}  # the command and settings that checkpoints are of

    @property
    def seconds(self) -> float:
        """Wall time spent on this run so far, over all its processes, apart from compiling."""
        return self._seconds[0] + time.monotonic() - self._started - self.compiling()

    @property
    def compile_seconds(self) -> float:
        """Wall time spent on compiling for this run so far, over all its processes."""
        return self._seconds[1] + self.compiling()

    # ---------------------------------------------------------------- what a run reports

    def scalar(self, tag: str, value: float, step: int) -> None:
        """Log a number; `step` is the cost being compared (docs/tags.md)."""
        value, step = float(value), int(step)
        if tag.startswith("eval/"):
            self.latest[tag] = (step, value)
        if self.directory is None:
            return
        from tensorboard.compat.proto.summary_pb2 import Summary

        line = json.dumps(
            {"tag": tag, "step": step, "value": value if np.isfinite(value) else None}
        )
        with writing(self.directory):
            metrics, _ = self._files()
            metrics.write(line.encode() + b"\n")
        self._event(Summary(value=[Summary.Value(tag=tag, simple_value=value)]), step)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        for tag, value in values.items():
            self.scalar(tag, value, step)

    def text(self, tag: str, text: str) -> None:
        """Show text (Markdown) in TensorBoard."""
        if self.directory is None:
            return
        from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
        from tensorboard.compat.proto.tensor_pb2 import TensorProto
        from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto

        shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
        tensor = TensorProto(dtype="DT_STRING", string_val=[text.encode()], tensor_shape=shape)
        plugin = SummaryMetadata.PluginData(plugin_name="text")
        metadata = SummaryMetadata(plugin_data=plugin)
        self._event(Summary(value=[Summary.Value(tag=tag, tensor=tensor, metadata=metadata)]), 0)

    def figure(self, name: str, picture: bytes, step: int) -> None:
        """Save a PNG as figures/<name>.png and show it in TensorBoard.

        A GIF goes to figures/<name>.gif, and has that for a tag: a PNG of its name is another one.
        """
        if self.directory is None:
            return
        from tensorboard.compat.proto.summary_pb2 import Summary

        is_gif = picture.startswith(b"GIF8")
        with writing(self.directory):
            (self.directory / "figures").mkdir(exist_ok=True)
        path = self.directory / "figures" / f"{name}.{'gif' if is_gif else 'png'}"
        replace_file(path, picture)
        header = (picture[6:8], picture[8:10]) if is_gif else (picture[16:20], picture[20:24])
        width, height = (int.from_bytes(n, "little" if is_gif else "big") for n in header)
        image = Summary.Image(height=height, width=width, colorspace=3)
        image.encoded_image_string = picture
        tag = f"figures/{path.name if is_gif else name}"
        self._event(Summary(value=[Summary.Value(tag=tag, image=image)]), step)

    def hparams(
        self,
        settings: Mapping[str, Any],
        results: Mapping[str, float],
        first: Collection[str] = (),
    ) -> None:
        """Fill TensorBoard's HParams tab: settings against final results.

        Args:
            results: tags and values.
            first: the settings that it shows before the others; it sorts both by name.
        """
        if self.directory is None:
            return
        from google.protobuf.struct_pb2 import Value
        from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
        from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

        experiment, start = api_pb2.Experiment(), plugin_data_pb2.SessionStartInfo()
        for name, value in settings.items():
            if isinstance(value, bool):
                start.hparams[name].bool_value = value
                kind = api_pb2.DATA_TYPE_BOOL
            elif isinstance(value, int | float):
                start.hparams[name].number_value = value
                kind = api_pb2.DATA_TYPE_FLOAT64
            else:
                start.hparams[name].CopyFrom(Value(string_value=str(value)))
                kind = api_pb2.DATA_TYPE_STRING
            experiment.hparam_infos.add(name=name, type=kind, differs=name in first)
        for tag in results:
            experiment.metric_infos.add(name=api_pb2.MetricName(tag=tag))
        end = plugin_data_pb2.SessionEndInfo(status=api_pb2.STATUS_SUCCESS)
        content = plugin_data_pb2.HParamsPluginData
        for tag, message in (
            (metadata.EXPERIMENT_TAG, content(experiment=experiment)),
            (metadata.SESSION_START_INFO_TAG, content(session_start_info=start)),
            (metadata.SESSION_END_INFO_TAG, content(session_end_info=end)),
        ):
            data = SummaryMetadata.PluginData(
                plugin_name=metadata.PLUGIN_NAME, content=message.SerializeToString()
            )
            value = Summary.Value(tag=tag, metadata=SummaryMetadata(plugin_data=data))
            value.tensor.CopyFrom(metadata.NULL_TENSOR)
            self._event(Summary(value=[value]), 0)
        for tag, number in results.items():
            value = Summary.Value(tag=tag, simple_value=number)
            self._event(Summary(value=[value]), 0)

    # ---------------------------------------------------------------- going on after a kill

    def restore(self) -> State | None:
        """The last checkpoint, or None; the next write cuts the log files back to what it keeps.

        Raises:
            InputError: the checkpoint is damaged, or a log file isn't what it was then.
        """
        if self.directory is None:
            return None
        self._marks = {}
        if (checkpoint := read_checkpoint(self.directory)) is None:
            return None
        self._seconds, self._marks = checkpoint.seconds, checkpoint.cut
        for name, (length, total) in checkpoint.marks.items():
            path = self.directory / name
            if not path.is_file() or sum_of_file(path, 0, length) != total:
                raise InputError(
                    f"{path} must begin with the {length} bytes that the run had written there at "
                    f"its last checkpoint, got others; {CURE}"
                )
        return checkpoint.state

    def checkpoint(self, state: State, cut: Marks | None = None) -> None:
        """Save all that `restore` needs, atomically.

        Args:
            cut: a `mark`; what was logged after it is not for a run that goes on.
        """
        self._checkpointed = time.monotonic()
        self.saved = True
        if self.directory is None:
            return
        marks, seconds = self.mark(), (self.seconds, self.compile_seconds)
        checkpoint = Checkpoint(state, seconds, marks, marks if cut is None else cut, self.owner)
        write_checkpoint(self.directory, checkpoint)

    def mark(self) -> Marks:
        """Length and checksum of what is logged so far, which is on the disk then."""
        if self.directory is None:
            return {}
        with writing(self.directory):
            for file in self._files():
                file.flush()
                os.fsync(file.fileno())
                path, end = Path(file.name), file.tell()
                begin, total = (self._marks or {}).get(path.name, (0, 0))
                marks = {path.name: (end, sum_of_file(path, begin, end, total))}
                self._marks = (self._marks or {}) | marks
        return dict(self._marks or {})

    def next_stop(self, done: int, total: int) -> int:
        """Where the loop must stop next: the next evaluation or checkpoint, or the end."""
        stop = min(self._next_evaluation(done), total)
        if self.checkpoint_every:
            stop = min(stop, (done // self.checkpoint_every + 1) * self.checkpoint_every)
        return stop

    def evaluation_due(self, before: int, done: int) -> bool:
        """Whether an evaluation falls due in (before, done]."""
        return self._next_evaluation(before) <= done

    def checkpoint_due(self, before: int, done: int) -> bool:
        """Whether a checkpoint falls due in (before, done], or by the clock."""
        if self.checkpoint_every:
            return done // self.checkpoint_every > before // self.checkpoint_every
        return time.monotonic() - self._checkpointed > CHECKPOINT_SECONDS

    def _next_evaluation(self, done: int) -> int:
        if self.eval_every:
            return (done // self.eval_every + 1) * self.eval_every
        k = int(8 * np.log10(max(done, 1)))  # the budget isn't known here, so runs can be extended
        while round(10 ** (k / 8)) <= done:
            k += 1
        return round(10 ** (k / 8))

    def close(self) -> None:
        if self.directory is not None and self._metrics is not None:
            with writing(self.directory):
                for file in self._files():
                    file.close()

    # ---------------------------------------------------------------- files

    def _event_files(self) -> list[Path]:
        assert self.directory is not None
        return sorted(self.directory.glob("events.out.tfevents.*"))

    def _files(self) -> tuple[IO[bytes], IO[bytes]]:
        """The metrics file and the events file, opened on first use."""
        assert self.directory is not None
        if self._metrics is None or self._events is None:
            from tensorboard.compat.proto.event_pb2 import Event
            from tensorboard.summary.writer.record_writer import RecordWriter

            name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.rlentropy"
            named = [self.directory / known for known in self._marks or {} if "tfevents" in known]
            path = next(iter(named or self._event_files()), self.directory / name)
            with writing(self.directory):
                (self.directory / "checkpoint").mkdir(parents=True, exist_ok=True)
                for old in (self.directory / "metrics.jsonl", path):
                    if old.is_symlink():
                        raise InputError(f"{old} must be a file of the run, got a link")
                    if old.exists() and self._marks is not None:
                        os.truncate(old, self._marks.get(old.name, (0, 0))[0])
                self._metrics = open(self.directory / "metrics.jsonl", "ab")  # noqa: SIM115
                self._events = open(path, "ab")  # noqa: SIM115
            self._records = RecordWriter(self._events)
            if self._events.tell() == 0:
                version = Event(wall_time=time.time(), file_version="brain.Event:2")
                self._records.write(version.SerializeToString())
        return self._metrics, self._events

    def _event(self, summary: Any, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        assert self.directory is not None
        event = Event(wall_time=time.time(), step=step, summary=summary)
        with writing(self.directory):
            self._files()
            self._records.write(event.SerializeToString())
