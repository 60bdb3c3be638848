"""Limits of the threads of numeric libraries."""

import os
import subprocess
import sys

from tests.conftest import ROOT

PROGRAM = """
import threading
import streams.worker.startup
from streams.worker.process_tuning import limit_process, limit_threads
from threadpoolctl import threadpool_info

def lane():
    limit_threads(1000)
    print(sorted({pool["num_threads"] for pool in threadpool_info()}))

limit_process()
limit_threads(1000)
thread = threading.Thread(target=lane)
thread.start()
thread.join()
"""


def test_limit_threads_in_the_main_thread_holds_in_lanes() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}

    printed = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )

    assert printed.stdout == "[1]\n"
