"""Names of what a run writes: its files, and the key of a checkpoint's facts."""

CONFIG = "config.yaml"
SETTINGS = "settings.yaml"  # the config that a comparison starts a run with
METRICS = "metrics.json"  # a line for each progress report and each evaluation
EVENTS = "events.out.tfevents"  # begin of the names of TensorBoard's files
LOG = "log.txt"
RUN = "run.json"  # how the run was started, each time
RESULTS = "results.json"  # the last evaluation
COMPARED = "result.json"  # what a comparison keeps of a finished run
PROGRESS = "progress.json"  # what a comparison keeps of a run in progress
LAST = "last_checkpoint"  # names the file that --resume continues from
FINAL = "model_final.pth"
UNFINISHED = "model_resume"  # a state inside an epoch, or before the evaluation of one
BEST = "model_best"
FAILED = "model_before_failed_evaluation"
RESUME = "resume"  # entry of a checkpoint: what a resumed run needs besides the epoch
FACTS = "vireid"  # in a checkpoint: what it says about itself
