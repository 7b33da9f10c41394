"""What stands in front with TLS: nginx and Caddy themselves read our files, and pass on what they should."""

import os
import re
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from getpass import getuser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest

from tests.scenarios.places import free_port

from .peers import needs, verdict
from .places import DEPLOYMENTS

PASSED_ON = ("/webhooks/vapi", "/webhooks/stripe", "/api/monitoring/queue-stats", "/health")
KEPT_INSIDE = ("/metrics", "/", "/openapi.json", "/webhooks")
PATIENCE_SECONDS = 20.0


class Echo(BaseHTTPRequestHandler):
    """Answers with what it was asked, as the receiver or Prefect would stand there."""

    def do_POST(self) -> None:
        """The path, the host and the size of the body."""
        size = len(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
        self.send_response(200)
        self.end_headers()
        with suppress(BrokenPipeError):  # a proxy that stops a flood hangs up
            self.wfile.write(f"{self.path} {self.headers['Host'].partition(':')[0]} {size}".encode())

    do_GET = do_POST  # noqa: N815 - the base class looks for it

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the base class
        """Nothing."""


@pytest.fixture
def upstream() -> Iterator[int]:
    """The port of somebody to pass requests on to."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@contextmanager
def proxy(command: list[str], folder: Path, address: str, env: Mapping[str, str]) -> Iterator[httpx.Client]:
    """A proxy in the foreground, and a client of it."""
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log) as process,
        httpx.Client(base_url=address, verify=trusting, trust_env=False, timeout=10) as client,
    ):
        try:
            deadline = time.monotonic() + PATIENCE_SECONDS
            while not is_up(client):
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline, (folder / "log").read_text()
            yield client
        finally:
            process.terminate()


def is_up(client: httpx.Client) -> bool:
    """Whether anybody answers."""
    try:
        client.get("/health")
    except httpx.TransportError:
        return False
    return True


def check_paths(client: httpx.Client, host: str) -> None:
    """The receiver's public paths are passed on with their host and body, others are not, nor is a flood."""
    headers = {"Host": host}
    body = b"x" * 1_000_000

    for path in PASSED_ON:
        assert client.post(path, content=body, headers=headers).text == f"{path} {host} 1000000"
    for path in KEPT_INSIDE:
        assert client.get(path, headers=headers).status_code == 404, path
    assert client.post(PASSED_ON[0], content=body * 8, headers=headers).text.endswith(" 8000000")
    assert client.post(PASSED_ON[0], content=body * 8 + b"x", headers=headers).status_code in {413, 502}


@needs("nginx")
def test_nginx_passes_on_webhooks_and_asks_for_a_password_before_prefect(tmp_path: Path, upstream: int) -> None:
    """Our sites, with a certificate, ports and folders of this test."""
    port = free_port()
    key = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "1",
        "-subj",
        "/CN=billing.example.com",
    ]
    code, said = verdict(*key, "-keyout", "privkey.pem", "-out", "fullchain.pem", folder=tmp_path)
    assert code == 0, said
    site = (DEPLOYMENTS / "systemd" / "nginx.conf").read_text()
    for ours, here in (
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("/etc/letsencrypt/live/billing.example.com", str(tmp_path)),
        ("/etc/letsencrypt/live/prefect.example.com", str(tmp_path)),
        ("/etc/nginx/prefect.htpasswd", str(tmp_path / "htpasswd")),
        ("127.0.0.1:3001;", f"127.0.0.1:{upstream};"),
        ("127.0.0.1:4200;", f"127.0.0.1:{upstream};"),
    ):
        assert ours in site
        site = site.replace(ours, here)
    folders = " ".join(
        f"{name}_temp_path {tmp_path}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration = tmp_path / "nginx.conf"
    configuration.write_text(f"events {{}} http {{ access_log off; {folders}\n{site}\n}}")
    command = ["nginx", "-c", str(configuration), "-p", str(tmp_path)]
    here = f"daemon off; user {getuser()}; error_log stderr; pid {tmp_path}/pid;"

    code, hashed = verdict("openssl", "passwd", "-apr1", "open sesame", folder=tmp_path)
    assert code == 0, hashed
    (tmp_path / "htpasswd").write_text(f"operator:{hashed}")
    page, headers = "/runs/flow-run/1", {"Host": "prefect.example.com"}

    with proxy([*command, "-g", here], tmp_path, f"https://127.0.0.1:{port}", os.environ) as client:
        check_paths(client, "billing.example.com")
        assert client.get(page, headers=headers).status_code == 401
        assert client.get(page, headers=headers, auth=("operator", "open sesame")).text.startswith(page)


@pytest.mark.slow
@needs("caddy")
def test_caddy_passes_on_webhooks_and_asks_for_a_password_before_prefect(tmp_path: Path, upstream: int) -> None:
    """Our Caddyfile without certificates, which this machine could not get."""
    port = free_port()
    _, version = verdict("caddy", "version", folder=tmp_path)
    caddyfile = (DEPLOYMENTS / "Caddyfile").read_text()
    for ours, here in (("receiver:3001", f"127.0.0.1:{upstream}"), ("prefect:4200", f"127.0.0.1:{upstream}")):
        assert ours in caddyfile
        caddyfile = caddyfile.replace(ours, here)
    if re.match(r"v?2\.[0-7]\.", version):  # the image has 2.10; the directive was spelt so until 2.8
        caddyfile = caddyfile.replace("basic_auth", "basicauth")
    assert caddyfile.startswith("{\n")
    (tmp_path / "Caddyfile").write_text(caddyfile.replace("{\n", "{\n\tadmin off\n\tauto_https off\n", 1))
    _, hashed = verdict("caddy", "hash-password", "--plaintext", "open sesame", folder=tmp_path)
    env = {
        "HOME": str(tmp_path),
        "DOMAIN": f"http://billing.example.com:{port}",
        "PREFECT_DOMAIN": f"http://runs.example.com:{port}",
        "PREFECT_USER": "operator",
        "PREFECT_PASSWORD_HASH": hashed.strip(),
    }
    env["PATH"] = "/usr/bin:/bin"

    with proxy(["caddy", "run", "--config", "Caddyfile"], tmp_path, f"http://127.0.0.1:{port}", env) as client:
        check_paths(client, "billing.example.com")
        prefect = {"Host": "runs.example.com"}
        assert client.get("/runs", headers=prefect).status_code == 401
        answer = client.get("/runs", headers=prefect, auth=("operator", "open sesame"))
        assert answer.text == "/runs runs.example.com 0"
