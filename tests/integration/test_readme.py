"""The examples in README.md run as they stand, against a real server."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from kinrec.server.security.tokens import read_tokens
from kinrec.trainer.cleaning_config import CleaningConfig
from kinrec.trainer.config import TrainConfig
from kinrec.trainer.settings import PATH, PATHS, Setting, read_settings, settings_of, train_config

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python"]
LINES = [text for language, text in BLOCKS if language == "json"]
CALLS = [
    line
    for language, code in BLOCKS
    if language == "sh"
    for line in code.splitlines()
    if line.startswith(("kinrec call", "grpcurl", "kinrec inspect", "kinrec evaluate"))
    and "--tls" not in line
]
SAFE = next(code for _, code in BLOCKS if "--tls-cert" in code).splitlines()
(CERTIFICATES,) = (code for _, code in BLOCKS if "openssl req" in code)


def test_there_are_examples():
    """The patterns above find the examples."""
    assert len(PYTHON) == 7
    assert len(CALLS) == 13
    assert len(LINES) == 2


def test_the_file_of_settings_is_taken(tmp_path):
    """The settings in TOML are settings, and make a configuration that can be trained with."""
    text, *_ = (code for language, code in BLOCKS if language == "toml")
    file = tmp_path / "shop.toml"
    file.write_text(text)
    own = [Setting("events", PATHS, ""), Setting("out", PATH, "")]
    known = [*own, *settings_of(CleaningConfig), *settings_of(TrainConfig)]
    config = train_config(read_settings(file, Namespace(), [("all", None, known)]))
    assert config.cleaning.type_weight == (("buy", 8.0), ("view", 1.0))


def test_the_file_of_tokens_is_taken(tmp_path):
    """The entry is one that the server takes."""
    (text,) = (code for language, code in BLOCKS if language == "toml" and "[[tokens]]" in code)
    file = tmp_path / "tokens.toml"
    file.write_text(text)
    (token,) = read_tokens(file)._tokens
    assert (token.name, token.rate, token.burst, len(token.rpcs)) == ("shop", 200, 400, 3)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates")
@pytest.mark.parametrize("is_mutual", [False, True])
def test_the_safe_server_is_called(bundle_store, tmp_path, is_mutual):
    """Certificates and a token are made, a server asks for them over TLS, and the call comes through."""
    make, serve, call = SAFE
    make = CERTIFICATES + make
    if is_mutual:
        serve += " --tls-client-ca client.pem"
        call += " --tls-cert client.pem --tls-key client.key"
    shell = {"cwd": tmp_path, "env": {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}}
    subprocess.run(["sh", "-ec", make], check=True, timeout=60, **shell)
    serve = serve.replace("models/shop", str(bundle_store)).replace("0.0.0.0", "127.0.0.1")  # noqa: S104
    server = subprocess.Popen(
        [*shlex.split(serve), "--port", "0"], stdout=subprocess.PIPE, text=True, **shell
    )
    try:
        address = server.stdout.readline().split()[-1]
        call = call.replace("localhost:50051", address)
        done = subprocess.run(
            shlex.split(call), capture_output=True, text=True, timeout=60, check=False, **shell
        )
    finally:
        server.terminate()
        server.communicate(timeout=30)
    assert done.returncode == 0, done.stderr
    assert "serving" in done.stdout.lower()


@pytest.mark.parametrize("code", PYTHON)
def test_python_examples_run(code, address, bundle_store):
    """Each Python example ends without an error and prints something."""
    code = code.replace("localhost:50051", address).replace("models/shop", str(bundle_store))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("line", CALLS)
def test_commands_run(line, address, bundle_store, tmp_path):
    """Each command that reads a store or calls a server ends well and prints something."""
    line = line.replace("localhost:50051", address).replace("models/shop", str(bundle_store))
    for name, text in zip(("people.jsonl", "clicks.jsonl"), LINES, strict=True):
        (tmp_path / name).write_text(text)
    program, *arguments = shlex.split(line)
    if line.startswith("kinrec call") and "--target" not in arguments:  # the default, in the README
        arguments += ["--target", address]
    done = subprocess.run(
        [BIN / program, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
