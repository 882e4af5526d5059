#!/usr/bin/env python3
"""Puts libtorch or OpenBLAS under .libtorch: `provision.py libtorch`, `provision.py openblas`.

Both come out of wheels that pip downloads, pinned by hash. Does nothing where the folder is there
already. Several at once wait for each other; what an interrupted run left behind is removed; a
folder appears under its final name only when it is complete.
"""

import fcntl
import fnmatch
import glob
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HOME = os.path.join(ROOT, ".libtorch")


class Wheel:
    """One wheel, and which of its files go where."""

    def __init__(self, requirement, tag, sha256, take):
        self.requirement = requirement
        self.tag = tag
        self.sha256 = sha256
        # Triples: a pattern of paths inside the wheel, the prefix that is cut off them, and the
        # one that is put in its place.
        self.take = take


class Component:
    """A folder under .libtorch, made of wheels and a few files of our own."""

    def __init__(self, name, folder, megabytes, remedy, wheels, files):
        self.name = name
        self.folder = folder
        self.megabytes = megabytes
        # What to do where it cannot be fetched.
        self.remedy = remedy
        self.wheels = wheels
        self.files = files


COMPONENTS = {
    "libtorch": Component(
        "libtorch 2.11.0",
        "2.11.0",
        544,
        "set LIBTORCH to a libtorch 2.11.0 of your own",
        [
            # torch's libtorch_cpu.so is linked to these two, though only GPUs use them. They come
            # first: a small file tells sooner whether there is a network.
            Wheel(
                "nvidia-cuda-runtime==13.0.96",
                "manylinux2014_x86_64",
                "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
                [("nvidia/cu13/lib/libcudart.so*", "nvidia/cu13/", "")],
            ),
            Wheel(
                "nvidia-cuda-cupti==13.0.85",
                "manylinux_2_25_x86_64",
                "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
                [("nvidia/cu13/lib/libcupti.so*", "nvidia/cu13/", "")],
            ),
            Wheel(
                "torch==2.11.0",
                "manylinux_2_28_x86_64",
                "7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a",
                [
                    ("torch/include/*", "torch/", ""),
                    ("torch/lib/libtorch_cpu.so", "torch/", ""),
                    ("torch/lib/libc10.so", "torch/", ""),
                    ("torch/lib/libgomp*", "torch/", ""),
                ],
            ),
        ],
        # torch-sys links to libtorch.so, which has no code of its own.
        {"lib/libtorch.so": "INPUT(-ltorch_cpu -lc10)\n", "build-version": "2.11.0\n"},
    ),
    "openblas": Component(
        "OpenBLAS 0.3.27",
        "openblas-0.3.27",
        39,
        "set FORGETTING_LAWS_OPENBLAS to a folder whose lib/ has a libopenblas.so",
        [
            # Later wheels rename the symbols of their OpenBLAS.
            Wheel(
                "scipy==1.13.1",
                "manylinux2014_x86_64",
                "a78b4b3345f1b6f68a763c6e25c0c9a23a9fd0f39f5f3d200efe8feda560a5fa",
                [("scipy.libs/lib*", "scipy.libs/", "lib/")],
            )
        ],
        {
            "lib/libopenblas.so": "INPUT(-l:libopenblasp-r0-01191904.3.27.so)\n",
            "build-version": "0.3.27\n",
        },
    ),
}


class Failure(Exception):
    """What went wrong, in words; the component's remedy is added to it."""


def check_machine():
    """Refuses a machine on which the wheels' libraries cannot run."""
    machine = "%s %s" % (platform.machine(), platform.system())
    if machine != "x86_64 Linux":
        raise Failure("fetched for x86_64 Linux only, and this is " + machine)
    try:
        found = os.confstr("CS_GNU_LIBC_VERSION")
        recent = [int(part) for part in found.split()[1].split(".")[:2]] >= [2, 28]
    except (AttributeError, OSError, ValueError, IndexError):
        found, recent = "another C library", False
    if not recent:
        raise Failure("needs glibc 2.28 or later, and this is %s" % found)


OFFLINE = (
    "Retrying (",
    "Connection",
    "Failed to establish",
    "name resolution",
    "timed out",
    "IncompleteRead",
    "ProxyError",
    "SSLError",
)


def explain(output, wheel):
    """One sentence for pip's several: its own last line misleads where there is no network."""
    if "No module named pip" in output:
        return "fetched by pip, which %s lacks: install it (python3-pip)" % sys.executable
    if "DO NOT MATCH THE HASHES" in output:
        return "pip's index offers another %s than the pinned one" % wheel.requirement
    if "No space left on device" in output:
        return "no space left on the device of " + HOME
    if any(sign in output for sign in OFFLINE):
        return "pip's index is out of reach: connect and try again"
    errors = [line for line in output.splitlines() if line.startswith("ERROR: ")]
    last = errors[-1][len("ERROR: "):] if errors else "pip gives no reason"
    return "pip could not download %s: %s" % (wheel.requirement, last)


def download(wheel, folder, timeout):
    """The path of the wheel in `folder`; pip has checked its hash."""
    requirements = os.path.join(folder, "requirements.txt")
    with open(requirements, "w") as file:
        file.write("%s --hash=sha256:%s\n" % (wheel.requirement, wheel.sha256))
    command = [sys.executable, "-m", "pip", "download", "--dest", folder]
    command += ["--no-deps", "--only-binary=:all:", "--require-hashes", "-r", requirements]
    # The wheels are taken apart and never run in Python: its own version does not matter.
    command += ["--implementation", "cp", "--python-version", "3.11", "--platform", wheel.tag]
    command += ["--no-cache-dir", "--no-input", "--disable-pip-version-check"]
    # With pip's usual five retries it takes minutes to notice that there is no network.
    command += ["--progress-bar", "off", "--retries", "1"]
    # pip unpacks into the temporary folder: here there is room, and leftovers are removed.
    environment = dict(os.environ, TMPDIR=folder)
    environment.setdefault("PIP_DEFAULT_TIMEOUT", str(timeout))
    for _ in range(3):
        pip = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            universal_newlines=True,
        )
        wheels = glob.glob(os.path.join(glob.escape(folder), "*.whl"))
        if pip.returncode == 0 and len(wheels) == 1:
            return wheels[0]
        # Only a transfer that began and broke off is worth another try.
        if "Downloading " not in pip.stdout or not any(s in pip.stdout for s in OFFLINE):
            break
    raise Failure(explain(pip.stdout, wheel))


def extract(wheel, archive, folder):
    """Takes what is wanted out of a wheel; the archive's checksums are checked on the way."""
    with zipfile.ZipFile(archive) as content:
        for member in content.infolist():
            for pattern, prefix, instead in wheel.take:
                if not member.is_dir() and fnmatch.fnmatch(member.filename, pattern):
                    path = os.path.join(folder, instead + member.filename[len(prefix):])
                    os.makedirs(os.path.dirname(path), exist_ok=True)
                    with content.open(member) as source, open(path, "wb") as target:
                        shutil.copyfileobj(source, target, 1 << 20)


def announce(component):
    """Tells whoever sits at the terminal why nothing moves: cargo shows no output of builds."""
    try:
        with open("/dev/tty", "w") as terminal:
            terminal.write("fetching %s (%d MB)\n" % (component.name, component.megabytes))
    except OSError:
        pass


def assemble(component, folder):
    """Fills `folder` with the component."""
    content = os.path.join(folder, "content")
    for i, wheel in enumerate(component.wheels):
        # Once the index has answered, a proxy may take its time to begin with a large file.
        archive = download(wheel, folder, 15 if i == 0 else 120)
        extract(wheel, archive, content)
        os.remove(archive)
    for name, text in component.files.items():
        path = os.path.join(content, name)
        with open(path, "w") as file:
            file.write(text)
        # Older than any build: cargo must not take a file that a build script has fetched for one
        # that has changed since.
        os.utime(path, (0, 0))
    return content


def provision(component):
    """Puts the component in its place, unless it is there."""
    final = os.path.join(HOME, component.folder)
    complete = os.path.join(final, "build-version")
    os.makedirs(HOME, exist_ok=True)
    # The system lets go of the lock when this process ends, however it ends.
    with open(os.path.join(HOME, ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.exists(complete):
            return
        check_machine()
        for leftover in glob.glob(os.path.join(glob.escape(HOME), ".partial-*")) + [final]:
            shutil.rmtree(leftover, ignore_errors=True)
        announce(component)
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=HOME) as folder:
            os.rename(assemble(component, folder), final)


def main():
    component = COMPONENTS[sys.argv[1]]
    try:
        provision(component)
    except Failure as failure:
        sys.exit("%s: %s; or %s" % (component.name, failure, component.remedy))
    except (OSError, zipfile.BadZipFile) as error:
        sys.exit("%s: %s; or %s" % (component.name, error, component.remedy))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
