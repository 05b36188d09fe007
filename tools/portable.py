"""Hold notebooks against their published outputs as other processors would compute them: what `make portable` runs."""

import argparse
import os
import shutil
import subprocess
import sys

from tools.notebooks import ROOT, find_notebooks, title
from tools.outputs import DIFF

# What PyTorch and its oneDNN can be told not to use: instructions newer than AVX2, vectors at all, and threads.
PROCESSORS = {
    "as it is, 1 thread": {"OMP_NUM_THREADS": "1"},
    "as it is, 2 threads": {"OMP_NUM_THREADS": "2"},
    "no vectors": {"ATEN_CPU_CAPABILITY": "default"},
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "AVX2 in oneDNN": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
}


def main() -> int:
    """Run the last stage of the regression once for each processor; return the number of those that were red."""
    parser = argparse.ArgumentParser(prog="make portable", description=__doc__)
    parser.add_argument("notebook", nargs="?", help="such as 2_mnist_cnn/1_train_and_test; all if left out")
    arguments = parser.parse_args()
    try:
        paths = find_notebooks(arguments.notebook)
    except ValueError as error:
        sys.exit(f"make portable: {error}")
    red = []
    kept = ROOT / "build" / "portable"
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    for name, settings in PROCESSORS.items():
        print(f"\n{name}: " + " ".join(f"{key}={value}" for key, value in settings.items()), flush=True)
        command = [sys.executable, "-m", "pytest", "--quiet", *(f"notebooks/{title(path)}.ipynb" for path in paths)]
        if subprocess.run(command, cwd=ROOT, env={**os.environ, **settings}, check=False).returncode:
            red.append(name)
            if DIFF.is_dir():  # which the next one would remove
                DIFF.rename(kept / name)
    print(f"\nred: {', '.join(red)}; pictures are in build/portable" if red else f"\ngreen on all {len(PROCESSORS)}")
    return len(red)


if __name__ == "__main__":
    sys.exit(main())
