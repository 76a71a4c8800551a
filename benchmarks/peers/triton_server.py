"""Triton, the program that the wheel nvidia-pytriton carries, with the models of triton/.

    python triton_server.py BUNDLE PORT

Becomes the server: the process is Triton's.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> None:
    bundle, port = sys.argv[1:3]
    packages = Path(sysconfig.get_path("purelib"))
    program = packages / "pytriton/tritonserver"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    # The wheel has one for each Python, and none where Triton looks for it.
    shutil.copy2(
        program / "python_backend_stubs" / version / "triton_python_backend_stub",
        program / "backends/python",
    )
    libraries = [str(sysconfig.get_config_var("LIBDIR")), str(packages / "nvidia_pytriton.libs")]
    environment = os.environ | {
        "BUNDLE": bundle,
        "LD_LIBRARY_PATH": ":".join(libraries),
        "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}",
    }
    command = [str(program / "bin/tritonserver"), "--model-repository", str(HERE / "triton")]
    command += ["--backend-directory", str(program / "backends")]
    command += ["--cache-directory", str(program / "caches")]
    command += ["--grpc-address", "127.0.0.1", "--grpc-port", port]
    command += [
        "--allow-http",
        "false",
        "--allow-metrics",
        "false",
        "--disable-auto-complete-config",
    ]
    os.execve(command[0], command, environment)


if __name__ == "__main__":
    main()
