"""Builds the Dockerfile without Docker, runs what came out as a container would, and looks at it.

CI has neither a Docker daemon nor a registry of images. So each instruction is carried out here, in
overlays of this machine's files and in namespaces: the same commands, files, environment and user.
What stands for the base image are this machine's Debian packages: all of them for the stage that
builds; for the one that serves the essential ones, apt and python3, which is what a slim image has.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dockerfile import Stage, ignored, read_stages

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "build/image"
BUNDLE = OUT / "bundle"
BASE_PACKAGES = ("apt", "ca-certificates", "python3")
COMPILERS = ("cc", "c++", "gcc", "g++", "clang", "as", "ld", "make")
# Of the process that builds: where it finds the registry of packages.
PASSED_ON = ("PIP_", "SSL_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


def main() -> None:
    if os.geteuid() != 0 or shutil.which("unshare") is None or shutil.which("dpkg") is None:
        sys.exit("check-image: needs root on Debian, for overlays and namespaces")
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    if why := cannot_mount():
        # In a container without privileges, or where the folder is an overlay itself.
        print(f"check-image: SKIPPED: this machine mounts no overlays here: {why}")
        return
    stages = read_stages(ROOT / "Dockerfile")
    base = OUT / "base"
    make_base(base)
    layers: dict[str, Path] = {}
    for number, stage in enumerate(stages):
        layer = layers[stage.name or str(number)] = OUT / f"layer-{number}"
        build(stage, layer, lower=base if stage is stages[-1] else Path("/"), layers=layers)
    last, layer = stages[-1], layers[str(len(stages) - 1)]
    look_at(layer, base)
    make_bundle()
    (layer / "bundle").mkdir()  # the mount point, which Docker would make
    run_and_ask(last, f"{layer}:{base}")
    run_and_ask(last, f"{layer}:{base}", SHORTLIST_SERVER_WORKERS="2")
    stop_while_it_loads(last, f"{layer}:{base}")
    print("check-image: all good")


def cannot_mount() -> str:
    """Try what `run_in` does; returns why it cannot be done, empty where it can."""
    tried = OUT / "tried"
    for name in ("upper", "work", "merged"):
        (tried / name).mkdir(parents=True)
    script = f"""
    set -e
    cd {tried}
    mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work merged
    mount --rbind /dev merged/dev
    mount -t proc proc merged/proc
    chroot merged /bin/true
    """
    command = ["unshare", "--mount", "--pid", "--fork", "/bin/sh", "-c", script]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    shutil.rmtree(tried)
    return result.stderr.strip() or "no reason given" if result.returncode else ""


def make_base(folder: Path) -> None:
    """Copy the files of the packages that a slim image has."""
    fields = "${Package}\t${Essential}\t${Pre-Depends}, ${Depends}\t${Provides}\n"
    rows = [row.split("\t") for row in output("dpkg-query", "-W", "-f", fields).splitlines()]
    needs = {name: depends for name, _, depends, _ in rows}
    provides = {word: name for name, _, _, words in rows for word in package_names(words)}
    found: set[str] = set()
    todo = [name for name, essential, _, _ in rows if essential == "yes"] + [*BASE_PACKAGES]
    while todo:
        name = todo.pop()
        name = name if name in needs else provides.get(name, name)
        if name in found or name not in needs:
            continue
        found.add(name)
        for alternatives in needs[name].split(","):
            choices = package_names(alternatives.replace("|", ","))
            todo += [one for one in choices if one in needs or one in provides][:1]
    folder.mkdir()
    # As on this machine: /bin, /lib and /sbin are links into /usr.
    for link in ("bin", "lib", "lib64", "sbin"):
        if Path("/", link).is_symlink():
            target = Path("/", link).readlink()
            (folder / link).symlink_to(target)
            (folder / target).mkdir(parents=True)
    for name in ("dev", "proc", "sys", "tmp", "etc", "var", "run", "opt", "usr/local/bin"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    files = sorted({line for line in output("dpkg", "-L", *found).splitlines() if line[:1] == "/"})
    files = [file for file in files if "/share/doc/" not in file and "/share/man/" not in file]
    listed = [file[1:] for file in files if os.path.lexists(file) and not Path(file).is_dir()]
    listed += ["etc/passwd", "etc/group", "etc/ld.so.cache"]
    (OUT / "files").write_text("\n".join(sorted(set(listed))))
    # tar keeps owners, modes and links, and makes the folders.
    pack = f"tar -C / -c --files-from={OUT}/files | tar -C {folder} -x --keep-directory-symlink"
    subprocess.run(["bash", "-o", "pipefail", "-c", pack], check=True)
    print(f"base: {len(found)} packages, {size_mb(folder):.0f} MB", flush=True)


def package_names(text: str) -> list[str]:
    """The names in `a (>= 1), b:any, c`."""
    words = [part.split("(")[0].split(":")[0].strip() for part in text.split(",")]
    return [word for word in words if word]


def build(stage: Stage, layer: Path, *, lower: Path, layers: dict[str, Path]) -> None:
    """Carry out the instructions of a stage; what they change goes into its layer."""
    layer.mkdir()
    for instruction in stage.instructions:
        begin = time.monotonic()
        if instruction.name == "RUN":
            run_in(stage, layer, lower, instruction.text, instruction.environment)
        elif instruction.name == "COPY":
            copy(stage, layer, instruction.text.split(), layers)
        print(
            f"  {instruction.name} {instruction.text} ({time.monotonic() - begin:.1f} s)",
            flush=True,
        )


def run_in(
    stage: Stage, layer: Path, lower: Path, command: str, environment: dict[str, str]
) -> None:
    work, merged = OUT / "work", OUT / "merged"
    for folder in (work, merged):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    passed_on = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
    script = f"""
    set -e
    mount -t overlay overlay -o lowerdir={lower},upperdir={layer},workdir={work} {merged}
    mount --rbind /dev {merged}/dev
    mount -t proc proc {merged}/proc
    mount -t tmpfs tmpfs {merged}/tmp
    mkdir -p {merged}{stage.folder}
    exec chroot {merged} /bin/sh -c 'cd "$0" && eval "$1"' "$0" "$1"
    """
    subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "/bin/sh", "-c", script, stage.folder, command],
        check=True,
        env={"HOME": "/root", **passed_on, **environment},
        stdout=subprocess.DEVNULL,
    )


def copy(stage: Stage, layer: Path, words: list[str], layers: dict[str, Path]) -> None:
    *sources, target = [word for word in words if not word.startswith("--")]
    begins = [word.removeprefix("--from=") for word in words if word.startswith("--from=")]
    to = Path(f"{layer}{Path(stage.folder, target)}")
    for source in sources:
        origin = Path(f"{layers[begins[0]]}{source}") if begins else ROOT / source
        into = to / origin.name if target.endswith("/") else to
        into.parent.mkdir(parents=True, exist_ok=True)
        if origin.is_file():
            assert begins or not ignored(ROOT / ".dockerignore", source), f"COPY {source}: ignored"
            shutil.copy2(origin, into)
            continue
        for file in [path for path in origin.rglob("*") if path.is_symlink() or path.is_file()]:
            if begins or not ignored(ROOT / ".dockerignore", str(file.relative_to(ROOT))):
                place = into / file.relative_to(origin)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(file, place, follow_symlinks=False)


def look_at(layer: Path, base: Path) -> None:
    """What is in the image that serves, and what is not."""
    bins = [folder / "usr/bin" for folder in (layer, base)] + [layer / "opt/shortlist/bin"]
    found = [name for name in COMPILERS if any((folder / name).exists() for folder in bins)]
    assert not found, f"expected no compiler in the final stage, got {found}"
    (packages,) = layer.glob("opt/shortlist/lib/python3.*/site-packages")
    for name in ("pip", "tensorflow", "pyarrow", "onnx"):
        assert not (packages / name).exists(), f"expected no {name} in the final stage"
    (library,) = packages.glob("hnswlib*.so")
    code = output("objdump", "--disassemble", "--no-show-raw-insn", library)
    wide = [line for line in code.splitlines() if "%ymm" in line or "%zmm" in line]
    assert not wide, f"hnswlib: expected code for any x86-64 CPU, got {wide[0]}"
    print(f"image: {size_mb(layer):.0f} MB beside the base; no compiler, no pip, portable hnswlib")


def make_bundle() -> None:
    sys.path.insert(0, str(ROOT / "tests"))
    import tiny_world
    from shortlist_exporters.export import export_bundle

    export_bundle(tiny_world.write_spec(OUT / "spec"), BUNDLE, version="1")


@contextmanager
def container(
    stage: Stage, lower: str, **settings: str
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run the image: PID 1, its own network, nothing can be written, no capability, not root.

    Yields the process that waits for it, and the number of PID 1 as this machine sees it.
    """
    merged = OUT / "merged"
    script = f"""
    set -e
    ip link set lo up
    # Without an upper layer an overlay cannot be written.
    mount -t overlay overlay -o lowerdir={lower} {merged}
    mount -t proc proc {merged}/proc
    mount -t tmpfs tmpfs {merged}/dev
    for name in null urandom zero; do
      touch {merged}/dev/$name
      mount --bind /dev/$name {merged}/dev/$name
    done
    mount --bind {BUNDLE} {merged}/bundle
    mount -o remount,bind,ro {merged}/bundle
    exec chroot {merged} "$@"
    """
    command = [*as_user(stage), *environment(stage, settings), *stage.entry_point, *stage.command]
    apart = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child"]
    process = subprocess.Popen(
        [*apart, "/bin/sh", "-c", script, "sh", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while not (numbers := children.read_text().split()) and process.poll() is None:
            time.sleep(0.01)
        yield process, int(numbers[0])
    finally:
        process.kill()
        process.wait()


def as_user(stage: Stage) -> list[str]:
    user, group = stage.user.split(":")
    nothing = ["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", "--clear-groups"]
    return ["setpriv", f"--reuid={user}", f"--regid={group}", *nothing]


def environment(stage: Stage, settings: dict[str, str]) -> list[str]:
    return [
        "env",
        "-i",
        *(f"{name}={value}" for name, value in {**stage.environment, **settings}.items()),
    ]


def run_and_ask(stage: Stage, lower: str, **settings: str) -> None:
    settings["SHORTLIST_SERVER_ALLOW_PLAINTEXT"] = "true"
    with container(stage, lower, **settings) as (process, number):
        assert process.stdout is not None
        line = process.stdout.readline()
        log = [line]
        while line and not line.startswith("ready on port 8500"):
            line = process.stdout.readline()
            log.append(line)
        assert line, f"the image does not serve:\n{''.join(log)}"
        status = dict(
            row.split(":\t")
            for row in Path(f"/proc/{number}/status").read_text().splitlines()
            if ":\t" in row
        )
        assert status["Uid"].split() == [stage.user.split(":")[0]] * 4, status["Uid"]
        assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
        assert status["NoNewPrivs"] == "1"
        inside = ["nsenter", f"--target={number}", "--mount", "--net", "--pid"]
        inside += [
            f"--root=/proc/{number}/root",
            "--wd=/",
            *as_user(stage),
            *environment(stage, {}),
        ]
        for place in ("/written", "/bundle/written", "/opt/shortlist/written", "/tmp/written"):
            tried = subprocess.run(
                [*inside, "touch", place], capture_output=True, text=True, check=False
            )
            assert "Read-only file system" in tried.stderr, f"{place} can be written: {tried}"
        health = subprocess.run(
            [*inside, *stage.health_check], capture_output=True, text=True, check=False
        )
        assert (health.returncode, health.stdout) == (0, "SERVING\n"), health
        client = Path(sys.executable).parent / "shortlist"
        asked = output(
            "nsenter", f"--target={number}", "--net", client, "recommend", "--user", "u3", "--json"
        )
        assert len(json.loads(asked)["items"]) == 20, asked
        os.kill(number, signal.Signals[stage.stop_signal])
        rest, _ = process.communicate(timeout=30)
        assert process.returncode == 0, rest
        assert "stopped" in rest, rest
        workers = settings.get("SHORTLIST_SERVER_WORKERS", "0")
        assert workers == "0" or f"{workers} workers serve" in "".join(log), log
        print(
            f"container, workers = {workers}: answered, healthy, read-only, without capabilities, "
            "stopped by its signal"
        )


def stop_while_it_loads(stage: Stage, lower: str) -> None:
    """PID 1 has no default for SIGTERM: what does not handle it goes on until it is killed."""
    with container(stage, lower, SHORTLIST_SERVER_ALLOW_PLAINTEXT="true") as (process, number):
        command = Path(f"/proc/{number}/cmdline")
        while b"shortlist-server" not in command.read_bytes() and process.poll() is None:
            time.sleep(0.001)
        # Python is starting, or imports, or loads the bundle. Before Python's first line runs,
        # nobody can handle a signal: it is sent until it is heard.
        sent = 0
        while process.poll() is None and sent < 300:
            os.kill(number, signal.Signals[stage.stop_signal])
            sent += 1
            time.sleep(0.1)
        assert process.returncode == 0, f"{process.returncode} after {sent} signals"
        log = process.communicate()[0]
        assert "Traceback" not in log, log
        assert "ready" not in log, log
        print(f"container: stopped while it loaded, by signal {sent}")


def output(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def size_mb(folder: Path) -> float:
    files = [file for file in folder.rglob("*") if file.is_file() and not file.is_symlink()]
    return sum(file.stat().st_size for file in files) / 1e6


if __name__ == "__main__":
    main()
