"""Commands as shells run them: closed and broken output, printed commands that work when pasted, words of the door."""

import os
import shlex
import subprocess
import sys

import numpy as np
import pytest

import neuralcf
from neuralcf.cli import main
from neuralcf.cli.options import _OPTIONS, option_name
from neuralcf.cli.output import command_line, recommend_command
from neuralcf.data import read_interactions
from neuralcf.errors import ArgumentError, argument

ENV = os.environ | {"NCF": f"{sys.executable} -m neuralcf", "OMP_NUM_THREADS": "1"}


def bash(command, folder):
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=ENV, capture_output=True, text=True, timeout=120, check=False
    )
    return done.returncode, done.stdout, done.stderr


def save(path, user_ids):
    users = len(user_ids)
    tensors = {
        "gmf.user_embedding.weight": np.ones((users, 1), np.float32),
        "gmf.item_embedding.weight": np.ones((4, 1), np.float32),
        "output.weight": np.ones((1, 1), np.float32),
        "output.bias": np.zeros(1, np.float32),
    }
    seen = np.arange(users + 1), np.zeros(users, np.int64)
    neuralcf.save(tensors, path, kind="gmf", ids=(user_ids, ["a", "b", "c", "d"]), seen=seen)


@pytest.mark.parametrize(
    "user", ["-5", "--user", "a b", "it's", "$HOME", "ü", "tab\there", "new\nline", "back\\slash", "日本", '"', "*"]
)
@pytest.mark.parametrize("model", ["m", "-m", "a model", "m\udce9"])
def test_printed_commands_work_when_pasted(user, model):
    printed = recommend_command(model, user)
    assert printed.isprintable()
    script = f"printf '%s\\0' {printed.partition(' recommend ')[2]}"
    words = subprocess.run(["bash", "-c", script], capture_output=True, check=True).stdout.split(b"\0")[:-1]
    got = [os.fsdecode(word) for word in words]
    assert got[0] in (model, f"./{model}")
    assert got[1:] in (["--user", user], [f"--user={user}"])


def test_a_printed_command_runs(tmp_path):
    save(tmp_path / "-m", ["-5", "it's"])
    for user in ("-5", "it's"):
        code, out, err = bash(recommend_command("-m", user).replace("neuralcf", "$NCF", 1), tmp_path)
        assert (code, err.count("\n")) == (0, 1)  # three items are left
        assert len(out.splitlines()) == 3
    assert shlex.split(command_line(["a", "b c"])) == ["a", "b c"]


def test_output_that_nobody_reads_ends_no_command(tmp_path):
    save(tmp_path / "m", ["u", "v"])
    (tmp_path / "a.csv").write_text("user,item\n" + "".join(f"{n},{n % 5}\n{n},{n % 5 + 1}\n" for n in range(20)))
    for command in (
        "$NCF recommend m --user u >&-",
        "$NCF recommend m --user u 2>&-",
        "$NCF recommend m --user u >&- 2>&-",
        "$NCF recommend m --all-users --out lists.csv | true; exit ${PIPESTATUS[0]}",
        "$NCF recommend m --all-users --out lists.csv 2> >(true)",
    ):
        code, _, err = bash(command, tmp_path)
        assert (code, "Traceback" in err) == (0, False), command
    train = "$NCF train a.csv --out t --epochs 1 --factors 2 --no-validation"
    code, _, err = bash(f"{train} >&- 2>&-; exit $?", tmp_path)
    assert (code, (tmp_path / "t" / "model.safetensors").is_file()) == (0, True)


def test_messages_speak_the_language_of_their_door(tmp_path, capsys):
    (tmp_path / "a.csv").write_text("who,what,points\n1,2,3\n4,5,4\n6,7,2\n")
    with pytest.raises(ArgumentError, match=r"pass header=True .* header=False"):
        read_interactions(tmp_path / "a.csv")
    assert main(["describe", str(tmp_path / "a.csv")]) == 2
    err = capsys.readouterr().err
    assert "pass --header if it names the columns, --no-header if it is an interaction" in err
    assert main(["describe", str(tmp_path / "a.csv"), "--header"]) == 2
    assert "as --user-column" in capsys.readouterr().err
    assert main(["describe", str(tmp_path / "a.csv"), "--no-header", "--min-rating", "9"]) == 2
    assert "header=" not in capsys.readouterr().err


def test_every_option_that_messages_name_exists():
    from neuralcf.cli import make_parser

    (commands,) = (action for action in make_parser()._actions if hasattr(action, "choices") and action.choices)
    options = {
        option for parser in commands.choices.values() for each in parser._actions for option in each.option_strings
    }
    named = {
        option_name(*found) for found in [(name.partition("=")[0], name.partition("=")[2] or None) for name in _OPTIONS]
    }
    assert named <= options
    assert argument("min_rating")
    for name in ("min_rating", "min_user", "min_item", "delimiter", "encoding", "repeats", "on_bad_rows", "held_out"):
        assert option_name(name, None) in options
