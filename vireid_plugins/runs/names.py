"""Names of what a run writes: its files, and the key of a checkpoint's facts."""

CONFIG = "config.yaml"
SETTINGS = "settings.yaml"  # the config that a comparison starts a run with
METRICS = "metrics.json"  # a line for each progress report and each evaluation
LOG = "log.txt"
RUN = "run.json"  # how the run was started, each time
RESULTS = "results.json"  # the last evaluation
COMPARED = "result.json"  # what a comparison keeps of a finished run
PROGRESS = "progress.json"  # what a comparison keeps of a run in progress
LAST = "last_checkpoint"  # names the file that --resume continues from
FINAL = "model_final.pth"
BEST = "model_best"
FACTS = "vireid"  # in a checkpoint: what it says about itself
