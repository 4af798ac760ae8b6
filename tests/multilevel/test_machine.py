"""Memory and processors are those of the container, in both versions of control groups, where there is one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from multilevel.machine import memory_bytes, processors

V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw"
V1 = (
    "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct"
)
MB = 1_000_000


def system(root: Path, mounts: str, groups: str, **files: str) -> Path:
    """A made-up ``/``: what is mounted, which groups this process is in, and the files of the groups by their path below /sys/fs/cgroup."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/mountinfo").write_text(f"22 27 0:21 / /proc rw - proc proc rw\n{mounts}\n")
    (root / "proc/self/cgroup").write_text(groups + "\n")
    for name, content in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    return root


def test_without_control_groups_it_is_the_machine(tmp_path: Path) -> None:
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert memory_bytes(tmp_path) == machine
    assert processors(tmp_path) == len(os.sched_getaffinity(0))
    free = system(tmp_path / "free", V2, "0::/a", **{"a/memory.max": "max", "a/cpu.max": "max 100000"})
    assert (memory_bytes(free), processors(free)) == (machine, len(os.sched_getaffinity(0)))


def test_version_2(tmp_path: Path) -> None:
    files = {"pod/memory.max": str(500 * MB), "pod/run/memory.max": "max", "pod/run/cpu.max": "max 100000", "pod/cpu.max": "50000 100000"}
    made = system(tmp_path, V2, "0::/pod/run", **files)
    assert memory_bytes(made) == 500 * MB, "the limit of a group above is a limit, too"
    assert processors(made) == 1
    (tmp_path / "sys/fs/cgroup/pod/run/memory.high").write_text(f"{300 * MB}\n")
    assert memory_bytes(made) == 300 * MB


def test_version_2_whose_group_is_named_as_the_host_has_it(tmp_path: Path) -> None:
    made = system(tmp_path, V2, "0::/kubepods/pod1/c1", **{"memory.max": str(500 * MB), "cpu.max": "100000 100000"})
    assert (memory_bytes(made), processors(made)) == (500 * MB, 1)
    inner = V2.replace(" / /sys", " /kubepods/pod1 /sys")
    made = system(tmp_path / "mounted", inner, "0::/kubepods/pod1/c1", **{"c1/memory.max": str(400 * MB)})
    assert memory_bytes(made) == 400 * MB


def test_version_1(tmp_path: Path) -> None:
    groups = "4:memory:/docker/c1\n1:cpu,cpuacct:/docker/c1\n0::/"
    no_limit = str(2**63 - 4096)
    files = {
        "memory/memory.limit_in_bytes": no_limit,
        "memory/docker/c1/memory.limit_in_bytes": str(700 * MB),
        "cpu,cpuacct/docker/c1/cpu.cfs_quota_us": "20000",
        "cpu,cpuacct/docker/c1/cpu.cfs_period_us": "100000",
        "cpu,cpuacct/cpu.cfs_quota_us": "-1",
    }
    made = system(tmp_path, V1, groups, **files)
    assert (memory_bytes(made), processors(made)) == (700 * MB, 1)


def test_version_1_inside_a_container_that_sees_its_own_group_only(tmp_path: Path) -> None:
    made = system(tmp_path, V1, "4:memory:/docker/c1", **{"memory/memory.limit_in_bytes": str(700 * MB)})
    assert memory_bytes(made) == 700 * MB


@pytest.mark.parametrize("text", ["", "max\nmax", "-1", "words", "9" * 400])
def test_a_file_that_says_something_else_is_no_limit(text: str, tmp_path: Path) -> None:
    made = system(tmp_path, V2, "0::/a", **{"a/memory.max": text, "a/cpu.max": text})
    assert memory_bytes(made) == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert processors(made) == len(os.sched_getaffinity(0))


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group of the kernel with 400 MB, where this process may make one."""
    name = f"groupwise-test-{os.getpid()}"
    for top, limit in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
        folder = Path(top) / name
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            (folder / limit).write_text(str(400 * 2**20))
        except OSError:
            folder.rmdir()
            continue
        yield folder
        folder.rmdir()
        return
    pytest.skip("no control group can be made here")


def test_a_limit_of_the_kernel(group: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; Path(sys.argv[1]).write_text(str(os.getpid()))\n"
        "from multilevel.machine import memory_bytes; print(memory_bytes())"
    )
    done = subprocess.run([sys.executable, "-c", code, str(group / "cgroup.procs")], capture_output=True, text=True, check=True)
    assert int(done.stdout) == 400 * 2**20


def test_arenas_are_few_where_the_c_library_is_glibc() -> None:
    has_glibc = "CS_GNU_LIBC_VERSION" in getattr(os, "confstr_names", {})
    counted = (
        "import ctypes, threading, numpy as np\n"
        "from multilevel.machine import few_arenas\n"
        "told = few_arenas()\n"
        "here = threading.Barrier(8)\n"
        "def work():\n"
        "    kept = [np.ones(1000) for _ in range(100)]\n"
        "    here.wait()\n"
        "threads = [threading.Thread(target=work) for _ in range(7)]\n"
        "[thread.start() for thread in threads]\n"
        "here.wait()\n"
        "libc = ctypes.CDLL(None)\n"
        "libc.fopen.restype = ctypes.c_void_p\n"
        "if told:\n"
        "    file = libc.fopen(b'/dev/stdout', b'w')\n"
        "    libc.malloc_info(0, ctypes.c_void_p(file))\n"
        "    libc.fflush(ctypes.c_void_p(file))\n"
        "else:\n"
        "    print('other')\n"
    )
    out = subprocess.run([sys.executable, "-c", counted], capture_output=True, text=True, check=True).stdout
    if has_glibc:
        assert 1 <= out.count("<heap nr=") <= 2
    else:
        assert out.strip() == "other"


def test_freed_memory_goes_back_to_the_system_where_the_c_library_is_glibc() -> None:
    has_glibc = "CS_GNU_LIBC_VERSION" in getattr(os, "confstr_names", {})
    counted = (
        "import numpy as np\n"
        "from multilevel.machine import give_back\n"
        "def resident():\n"
        "    return int(open('/proc/self/statm').read().split()[1]) * 4096\n"
        "pieces = [np.ones(12_000) for _ in range(2_000)]\n"
        "pieces = pieces[-1:]\n"  # the last piece keeps the heap from shrinking by itself
        "before = resident()\n"
        "told = give_back()\n"
        "print(told, before - resident())\n"
    )
    told, freed = subprocess.run([sys.executable, "-c", counted], capture_output=True, text=True, check=True).stdout.split()
    if has_glibc:
        assert told == "True"
        assert int(freed) > 100e6
