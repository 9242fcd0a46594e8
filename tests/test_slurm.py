"""The SLURM template, run to its end by a cluster that is made of shell scripts."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "checkpoints" / "launch" / "slurm.sh"
SRUN = """
trap 'kill -USR1 "${tasks[@]}"' USR1
for node in $(seq 0 $((SLURM_JOB_NUM_NODES - 1))); do
    SLURM_NODEID=$node "${@:2}" & tasks+=($!)
done
for task in "${tasks[@]}"; do
    code=138; while [ $code -eq 138 ]; do code=0; wait "$task" || code=$?; done
    [ $code -eq 0 ] || exit $code
done
"""
"""Starts a task a machine, hands USR1 on to all, and ends as the first that fails."""
COMMAND = """
trap 'touch "$LOG/$SLURM_NODEID.usr1"; exit $STOPPED_CODE' USR1
printf '%s\\n' "$(basename "$0")" "$@" > "$LOG/$SLURM_NODEID.$(basename "$0")"
for _ in $(seq $TENTHS); do sleep 0.1; done
exit $CODE
"""
"""A launcher, or python, that writes down how it was called and works for a while."""


class Cluster:
    """Commands of SLURM and of the environment, which write to `log`."""

    def __init__(self, folder: Path):
        self.folder, self.log = folder, folder / "log"
        self.log.mkdir()
        self.command("cluster/srun", SRUN)
        self.command(
            "cluster/scontrol",
            'if [ "$1" = show ]; then printf "first\\nsecond\\n"; else echo "$@" >> "$LOG/requeued"; fi',
        )
        for name in ("accelerate", "python"):
            self.command(f".venv/bin/{name}", COMMAND)
        (folder / ".venv" / "bin" / "activate").write_text(f"export PATH={folder}/.venv/bin:$PATH\n")

    def command(self, name: str, body: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/usr/bin/env bash\n{body}")
        path.chmod(0o755)

    def submit(self, *arguments: str, **variables: object) -> subprocess.Popen:
        environment = {
            "PATH": f"{self.folder}/cluster:{os.environ['PATH']}", "LOG": self.log, "SLURM_SUBMIT_DIR": self.folder,
            "SLURM_JOB_ID": 41_234, "SLURM_JOB_NAME": "strings", "SLURM_JOB_NUM_NODES": 2,
            "SLURM_JOB_NODELIST": "[first,second]", "SLURM_GPUS_ON_NODE": 4, "TENTHS": 0, "CODE": 0, "STOPPED_CODE": 1,
        }  # fmt: skip
        return subprocess.Popen(
            ["bash", SCRIPT, *arguments], env={name: str(value) for name, value in (environment | variables).items()},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def called(self, node: int, command: str) -> list[str]:
        return (self.log / f"{node}.{command}").read_text().splitlines()[1:]


@pytest.fixture
def cluster(tmp_path) -> Cluster:
    return Cluster(tmp_path)


def options(arguments: list[str]) -> dict[str, str]:
    return dict(zip(arguments[::2], arguments[1::2], strict=True))


def test_a_job_of_an_array_is_a_run_of_its_own_on_all_its_machines(cluster):
    job = cluster.submit("pretrain/mae.py", "--data", "a pack", SLURM_ARRAY_TASK_ID=3)
    assert job.communicate(timeout=60)[0] == ""
    assert job.returncode == 0
    for node in (0, 1):
        launcher, *arguments = cluster.called(node, "accelerate")
        place = arguments.index("pretrain/mae.py")
        assert launcher == "launch"
        assert options(arguments[:place]) == {
            "--machine_rank": str(node), "--rdzv_conf": f"is_host={str(node == 0).lower()}",
            "--config_file": "checkpoints/launch/two_machines.yaml", "--rdzv_backend": "c10d", "--max_restarts": "2",
            "--num_machines": "2",
            "--num_processes": "8", "--main_process_ip": "first", "--main_process_port": "21234",
        }  # fmt: skip
        assert options(arguments[place + 1 :]) == {
            "--data": "a pack", "--seed": "3", "--out": "runs/strings_3", "--resume": "auto",
        }  # fmt: skip
    assert not (cluster.log / "requeued").exists()


@pytest.mark.parametrize(("gpus", "code"), [(4, 1), (1, 75)])
def test_a_job_whose_time_is_up_hands_the_signal_on_and_queues_again(cluster, gpus, code):
    nodes = 2 if gpus > 1 else 1
    job = cluster.submit(
        "pretrain/mae.py", SLURM_GPUS_ON_NODE=gpus, SLURM_JOB_NUM_NODES=nodes, TENTHS=600, STOPPED_CODE=code
    )
    command = "accelerate" if gpus > 1 else "python"
    deadline = time.monotonic() + 60
    while len(list(cluster.log.glob(f"*.{command}"))) < nodes:
        assert job.poll() is None, job.stdout.read()
        assert time.monotonic() < deadline, "no machine has started"
        time.sleep(0.02)
    job.send_signal(signal.SIGUSR1)
    said = job.communicate(timeout=60)[0]
    assert job.returncode == 0, said
    assert "job 41234 queues again" in said
    assert len(list(cluster.log.glob("*.usr1"))) == nodes
    assert (cluster.log / "requeued").read_text() == "requeue 41234\n"


@pytest.mark.parametrize(("code", "ends", "is_requeued"), [(0, 0, False), (2, 2, False), (75, 0, True)])
def test_a_job_that_ends_by_itself_queues_again_only_if_that_helps(cluster, code, ends, is_requeued):
    job = cluster.submit("pretrain/mae.py", SLURM_GPUS_ON_NODE=1, SLURM_JOB_NUM_NODES=1, CODE=code)
    said = job.communicate(timeout=60)[0]
    assert job.returncode == ends, said
    assert cluster.called(0, "python") == [
        "pretrain/mae.py",
        "--seed",
        "0",
        "--out",
        "runs/strings_0",
        "--resume",
        "auto",
    ]
    assert (cluster.log / "requeued").exists() == is_requeued


def test_a_job_without_a_recipe_is_told_what_was_expected(cluster):
    job = cluster.submit()
    assert job.communicate(timeout=60)[0].startswith("error: a recipe and its flags were expected")
    assert job.returncode == 2


def test_the_script_is_clean():
    shellcheck = Path(sys.executable).with_name("shellcheck")
    if not shellcheck.is_file():
        pytest.skip("there is no shellcheck; it comes with the dev extra")
    done = subprocess.run([shellcheck, SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
