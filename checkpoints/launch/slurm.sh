#!/usr/bin/env bash
# A SLURM job array of one recipe: each job is a run of its own, on as many machines as are asked for, and goes on after
# its time limit.
#
#   mkdir -p logs
#   sbatch --array=0-4 checkpoints/launch/slurm.sh pretrain/mae.py --data /shared/packs/mine
#   sbatch --nodes=1 --gpus-per-node=1 checkpoints/launch/slurm.sh finetune/adapters.py --method lora
#
# Submit it from the clone. Job N of the array gets --seed N and the run folder RUNS/JOBNAME_N, job 0 without an array;
# name jobs apart with --job-name. The clone, its environment, the pack and RUNS lie where all machines see them.
#
# Two minutes before its time is up, SLURM sends USR1 to this script, which hands it on; the recipe saves its state and
# ends, and the job queues itself again: the same job, the same command, the same folder. A job whose machine fails does
# so too (--requeue). A run that is finished ends at once when it is started again; one that fails ends the job.
#
#   RUNS            where run folders are made: runs
#   ENVIRONMENT     what is activated: .venv
#   LAUNCH_CONFIG   Accelerate's, for more processes than one: checkpoints/launch/two_machines.yaml
#   MAX_RESTARTS    how often processes that died are started again within a job: 2
#   PROCESSES       on each machine: one a GPU
#
#SBATCH --job-name=luthier
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=12:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=logs/%x_%A_%a.out
set -euo pipefail

if [ $# -eq 0 ]; then
    echo "error: a recipe and its flags were expected, as in: sbatch slurm.sh pretrain/mae.py --data packs/mine" >&2
    exit 2
fi
cd "${SLURM_SUBMIT_DIR:-.}"
# shellcheck source=/dev/null
source "${ENVIRONMENT:-.venv}/bin/activate"

number=${SLURM_ARRAY_TASK_ID:-0}
machines=${SLURM_JOB_NUM_NODES:-1}
processes=$((machines * ${PROCESSES:-${SLURM_GPUS_ON_NODE:-1}}))
recipe=("$@" --seed "$number" --out "${RUNS:-runs}/${SLURM_JOB_NAME}_$number" --resume auto)

if [ "$processes" -gt 1 ]; then
    # torchrun, which Accelerate calls, hands on the signals named here and no others.
    export PET_SIGNALS_TO_HANDLE=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1
    export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 # or processes that it starts again look for the dead ones
    first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)
    port=$((20000 + SLURM_JOB_ID % 20000)) # jobs of an array may share a machine
    # shellcheck disable=SC2016 # each machine has a number of its own to put in
    launch=(bash -c '[ "$SLURM_NODEID" -eq 0 ] && is_host=true || is_host=false
        exec accelerate launch --machine_rank "$SLURM_NODEID" --rdzv_conf "is_host=$is_host" "$@"' launch
        --config_file "${LAUNCH_CONFIG:-checkpoints/launch/two_machines.yaml}"
        --rdzv_backend c10d --max_restarts "${MAX_RESTARTS:-2}"
        --num_machines "$machines" --num_processes "$processes" --main_process_ip "$first" --main_process_port "$port")
else
    # For a single process Accelerate's launcher would keep signals and exit codes to itself.
    export ACCELERATE_MIXED_PRECISION=${ACCELERATE_MIXED_PRECISION:-bf16}
    launch=(python)
fi

stopped=
step=
trap 'stopped=yes; [ -z "$step" ] || kill -USR1 "$step"' USR1 # srun passes it to every machine

srun --kill-on-bad-exit=1 "${launch[@]}" "${recipe[@]}" &
step=$!
code=138
while [ "$code" -eq 138 ]; do # USR1 has interrupted the wait
    code=0
    wait "$step" || code=$?
done

if [ "$code" -ne 0 ] && { [ -n "$stopped" ] || [ "$code" -eq 75 ]; }; then
    echo "run $number stopped early and has saved its state; job $SLURM_JOB_ID queues again"
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
fi
exit "$code"
