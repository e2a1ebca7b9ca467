"""``vireid keys``. Oracle: the declarations of two keys, as they stand in their files."""

from vireid.cli import main


def test_keys_of_a_method_are_listed_with_default_values_and_meaning(capsys):
    assert main(["keys", "maum.alpha"]) == 0
    assert capsys.readouterr().out == (
        "MODEL.MAUM.ALPHA: 20.0 (above 0)\n    scale of the unidirectional metrics (alpha)\n"
    )


def test_without_a_prefix_all_keys_are_listed_ours_and_fastreids(capsys):
    assert main(["keys"]) == 0
    lines = capsys.readouterr().out.splitlines()
    starts = {line.split(":")[0] for line in lines[::2]}
    assert {"MODEL.MAUM.ALPHA", "SOLVER.BASE_LR"} <= starts
    assert all(line.startswith("    ") for line in lines[1::2])


def test_a_prefix_of_no_key_is_a_mistake_that_names_the_nearest(capsys):
    assert main(["keys", "MODEL.MAUM.ALPHAA"]) == 2
    written = capsys.readouterr()
    assert not written.out and "MODEL.MAUM.ALPHA" in written.err.splitlines()[0]
