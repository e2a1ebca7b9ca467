"""One file for each verb; ``vireid.cli`` imports every file of this folder."""
