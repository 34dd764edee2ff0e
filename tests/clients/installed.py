"""Clients of the API, installed by name into a folder of the build, or a reason to skip."""
import os, pathlib, shutil, subprocess, sys, unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/cli"))
FOLDER = pathlib.Path(os.environ.get("HADAL_TEST_DATA", ROOT / "build/tests/data")).parent / "clients"


def _run(command, log):
    with open(log, "wb") as out:
        try:
            return subprocess.run(list(map(str, command)), stdout=out, stderr=subprocess.STDOUT, timeout=600).returncode == 0
        except (OSError, subprocess.TimeoutExpired):
            return False


def python_with(package):
    """A Python that has it."""
    folder = FOLDER / ("py-" + package.split("[")[0])
    python = folder / "bin/python"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        FOLDER.mkdir(parents=True, exist_ok=True)
        log = FOLDER / (folder.name + ".log")
        if not _run([sys.executable, "-m", "venv", folder], log) or not _run([python, "-m", "pip", "install", "-q", "--retries", "1", "--timeout", "20", package], log):
            raise unittest.SkipTest(f"{package} could not be installed from PyPI; see {log}")
        (folder / "complete").touch()
    return str(python)


def node_with(package):
    """A folder whose node_modules has it."""
    if not shutil.which("node") or not shutil.which("npm"):
        raise unittest.SkipTest("there is no node or no npm here")
    folder = FOLDER / ("node-" + package)
    if not (folder / "complete").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text("{}")
        log = FOLDER / (folder.name + ".log")
        if not _run(["npm", "install", "--prefix", folder, "--no-audit", "--no-fund", "--fetch-retries", "1", package], log):
            raise unittest.SkipTest(f"{package} could not be installed from npm; see {log}")
        (folder / "complete").touch()
    return folder


def talk(command, cwd=None, env=None, timeout=900):
    """What a client's program prints; its own words if it fails."""
    p = subprocess.run(list(map(str, command)), cwd=cwd, env=env, capture_output=True, timeout=timeout)
    assert p.returncode == 0, (p.stdout + p.stderr).decode(errors="replace")
    return p.stdout.decode()
