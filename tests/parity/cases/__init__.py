"""The methods, one file each; every file of this folder is loaded."""
