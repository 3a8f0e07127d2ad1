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
from concurrent.futures.process import BrokenProcessPool
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

    Each worker is a pool of one process, so that a process that dies takes no other with it; the next function that
    the worker gets has a new process.

    Args:
        workers: number of processes.
        gpus: as in CUDA_VISIBLE_DEVICES; the workers take turns with them. Empty for none.
        logs: folder of what the workers print.
    """

    def __init__(self, workers: int, gpus: Sequence[str], logs: Path):
        logs.mkdir(parents=True, exist_ok=True)
        cores = visible_cores()
        self.slots = workers
        self._workers = [
            Worker(
                cores[number::workers] or cores[number % len(cores) :][:1] if cores else [],
                gpus[number % len(gpus)] if gpus else None,
                logs / f"worker-{number}.txt",
            )
            for number in range(workers)
        ]
        self._free: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        for worker in self._workers:
            self._free.put(worker)
        self._threads = ThreadPoolExecutor(workers)
        self._before = {name: os.environ.get(name) for name in WORKER_VARIABLES}

    def __enter__(self) -> LocalPool:
        os.environ.update(WORKER_VARIABLES)  # a process reads them before its first line of Python
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.kill_stopped()
        self._threads.shutdown(cancel_futures=True)
        for worker in self._workers:
            worker.close()
        for name, value in self._before.items():
            os.environ.pop(name)
            os.environ.update({} if value is None else {name: value})

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        """Runs the function on the next free worker."""
        return self._threads.submit(self._call, function, *arguments)

    def stop(self) -> None:
        """Interrupts all workers."""
        for worker in self._workers:
            worker.stop()

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        worker = self._free.get()
        try:
            return worker.call(function, *arguments)
        finally:
            self._free.put(worker)


class Worker:
    """One process at a time, started when it is needed."""

    def __init__(self, cores: list[int], gpu: str | None, log: Path):
        self._begin = (cores, gpu, log)
        self._pool: ProcessPoolExecutor | None = None
        self._pid: int | None = None
        self._busy = self._stopped = False

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Runs the function in the process.

        Raises:
            BrokenProcessPool: if the process dies.
        """
        try:
            if self._pool is None:
                spawn = multiprocessing.get_context("spawn")
                self._pool = ProcessPoolExecutor(1, spawn, begin_worker, self._begin)
                self._pid = self._pool.submit(os.getpid).result()
            self._busy = True
            if self._stopped:
                raise KeyboardInterrupt
            return self._pool.submit(work, function, *arguments).result()
        except BrokenProcessPool:
            self.close()
            raise
        finally:
            self._busy = False

    def stop(self) -> None:
        """Interrupts the process. After that the worker takes no function."""
        self._stopped = True
        self._signal(signal.SIGTERM)

    def kill_stopped(self) -> None:
        """Kills the process if it still works after it was interrupted."""
        if self._stopped and self._busy:
            self._signal(getattr(signal, "SIGKILL", signal.SIGTERM))

    def _signal(self, number: int) -> None:
        if self._pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, number)

    def close(self) -> None:
        """Ends the process when it is free."""
        pool, self._pool, self._pid = self._pool, None, None
        if pool is not None:
            pool.shutdown()


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
