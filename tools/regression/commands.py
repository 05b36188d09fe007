"""What the commands share: which notebooks they are for, several notebooks at a time, and an end at Ctrl-C."""

import argparse
import asyncio
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from tools.regression.notebooks import NOTEBOOKS, WORKERS, find_notebooks, without_a_reader

T = TypeVar("T")


def begin(
    parser: argparse.ArgumentParser, name: str = "notebook", *, anywhere: bool = False
) -> tuple[list[Path], argparse.Namespace]:
    """Read the command line, with an argument of this name for one notebook, and return the notebooks that it means.

    With `anywhere` it may be the path of a notebook that is not the course's.

    If there are none, the process ends with 2 and a sentence. From here on SIGTERM is as Ctrl-C.
    """
    parser.add_argument(name, nargs="?", default="", help="such as 2_mnist_cnn/1_train_and_test or 2.1, else all")
    arguments = parser.parse_args()
    try:
        paths = find_notebooks(arguments.notebook, anywhere=anywhere)
    except ValueError as error:
        parser.error(str(error))
    if not paths:
        parser.error(f"there are no notebooks in {NOTEBOOKS}")
    without_a_reader()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return paths, arguments


def side_by_side(jobs: dict[str, Callable[[], Awaitable[T]]]) -> dict[str, T]:
    """Do the jobs, `WORKERS` at a time, under a progress bar that names those now running, and return their results.

    The last is started first: a course grows heavier towards its end, and no long notebook is to be left for the end.
    After Ctrl-C nothing more is started, those that run end, and only what was finished is returned.
    """
    waiting, running, results = iter(reversed(jobs.items())), [], {}
    with tqdm(total=len(jobs), unit="notebook", mininterval=0) as bar, suppress(KeyboardInterrupt):

        async def work() -> None:
            for name, job in waiting:
                running.append(name)
                bar.set_postfix_str("now " + ", ".join(running))
                results[name] = await job()
                running.remove(name)
                bar.update()

        async def workers() -> None:
            await asyncio.gather(*(work() for _ in range(WORKERS)))

        asyncio.run(workers())
    return results
