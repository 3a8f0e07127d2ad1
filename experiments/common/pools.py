"""Pools of workers: processes of this machine, or a Ray cluster. The same functions run on either."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from pyro_vd.errors import UserError

__all__ = ["LocalPool", "RayPool", "visible_cores", "visible_gpus"]

WORKER_VARIABLES = {
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    "TORCHINDUCTOR_COMPILE_THREADS": "1",
    "TQDM_MININTERVAL": "10",
}
"""Environment of every worker: one thread, and progress bars that do not fill its log."""


class LocalPool:
    """Processes of this machine, each with cores or a GPU of its own and one thread.

    Every function has a new process, so that a process that dies takes no other with it.

    Args:
        workers: number of processes at once.
        gpus: as in CUDA_VISIBLE_DEVICES; the workers take turns with them. Empty for none.
        logs: folder of what the workers print.
    """

    def __init__(self, workers: int, gpus: Sequence[str], logs: Path):
        logs.mkdir(parents=True, exist_ok=True)
        cores = visible_cores()
        self.slots = workers
        self._free: queue.SimpleQueue[tuple[list[int], str | None, Path]] = queue.SimpleQueue()
        for number in range(workers):
            own = cores[number::workers] or cores[number % len(cores) :][:1] if cores else []
            self._free.put((own, gpus[number % len(gpus)] if gpus else None, logs / f"worker-{number}.txt"))
        self._threads = ThreadPoolExecutor(workers)
        self._pids: set[int] = set()
        self._stopped = False
        self._before = {name: os.environ.get(name) for name in WORKER_VARIABLES}

    def __enter__(self) -> LocalPool:
        os.environ.update(WORKER_VARIABLES)  # a process reads them before its first line of Python
        return self

    def __exit__(self, *_: object) -> None:
        if self._stopped:  # what still works was interrupted before
            self._signal(getattr(signal, "SIGKILL", signal.SIGTERM))
        self._threads.shutdown(cancel_futures=True)
        for name, value in self._before.items():
            os.environ.pop(name)
            os.environ.update({} if value is None else {name: value})

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        """Runs the function in a process when one is free. The future fails if the process dies."""
        return self._threads.submit(self._call, function, *arguments)

    def stop(self) -> None:
        """Interrupts all processes. After that no function begins."""
        self._stopped = True
        self._signal(signal.SIGTERM)

    def _signal(self, number: int) -> None:
        for pid in list(self._pids):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        place = self._free.get()
        try:
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), begin_worker, place) as process:
                pid = process.submit(os.getpid).result()
                self._pids.add(pid)
                try:
                    if self._stopped:
                        raise KeyboardInterrupt
                    return process.submit(work, function, *arguments).result()
                finally:
                    self._pids.discard(pid)
        finally:
            self._free.put(place)


def begin_worker(cores: list[int], gpu: str | None, log: Path) -> None:
    """The first call in a worker's process."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # Ctrl-C in the terminal reaches the driver only, which stops the workers by SIGTERM
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with log.open("a") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    if cores:
        os.sched_setaffinity(0, cores)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    torch.set_num_threads(1)
    threading.Thread(target=_follow_driver, daemon=True).start()


def work(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls the function in a worker's process, which ends after it if the driver has ended."""
    try:
        return function(*arguments)
    finally:
        if not _driver().is_alive():
            os._exit(1)


def _follow_driver() -> None:
    """Interrupts this process when the driver has ended, however it did."""
    _driver().join()
    os.kill(os.getpid(), signal.SIGTERM)


def _driver() -> Any:
    return multiprocessing.parent_process()


def visible_cores() -> list[int]:
    """The cores that this process may use; empty where a process cannot be pinned to some."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as in CUDA_VISIBLE_DEVICES."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]


class RayPool:
    """A running Ray cluster. A function has one core, or one core and one GPU, of any of its machines.

    Args:
        address: of the cluster, or ``auto`` for the one that this machine belongs to.
        gpu: whether a function needs a GPU.

    Raises:
        UserError: if Ray is not installed, or if there is no such cluster.
    """

    def __init__(self, address: str, gpu: bool):
        try:
            import ray
        except ModuleNotFoundError:
            raise UserError("--cluster needs ray; pip install 'pyro-vd[sweeps]'") from None
        try:
            ray.init(
                address, log_to_driver=False, logging_level=logging.WARNING, runtime_env={"env_vars": WORKER_VARIABLES}
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UserError(f"--cluster {address}: {error}") from None
        self._ray, self._resource = ray, "GPU" if gpu else "CPU"
        self._remote = ray.remote(num_cpus=1, num_gpus=int(gpu), max_retries=0)(_call)
        self._refs: dict[Future, Any] = {}

    def __enter__(self) -> RayPool:
        return self

    def __exit__(self, *_: object) -> None:
        self._ray.shutdown()

    @property
    def slots(self) -> int:
        """Cores or GPUs of the machines that are there now."""
        return int(self._ray.cluster_resources().get(self._resource, 0))

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        """Runs the function on a free core of the cluster."""
        ref = self._remote.remote(function, *arguments)
        future: Future = ref.future()
        self._refs[future] = ref
        future.add_done_callback(self._refs.pop)
        return future

    def stop(self) -> None:
        """Interrupts all functions."""
        for ref in list(self._refs.values()):
            self._ray.cancel(ref)


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)
