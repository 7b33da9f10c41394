"""`prefect deploy --all` from a fresh clone against a fresh server, by the line that the file itself names."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from tests.stack.serving import ROOT, serving


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_documented_line_deploys_everything_to_a_fresh_server(postgres_url: str, tmp_path: Path) -> None:
    """The pools come first, since Prefect deploys to none that does not exist."""
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", "--depth", "1", ROOT.as_uri(), clone], check=True)
    text = (ROOT / "prefect.yaml").read_text(encoding="utf-8")
    (line,) = re.findall(r"`([^`]+ && prefect deploy --all)`", text)
    wanted = {(each["name"], each["name"], each["work_pool"]["name"]) for each in yaml.safe_load(text)["deployments"]}

    with serving(postgres_url, tmp_path / "home", auth_string="operator:secret", pools=False) as stack:
        env = {**stack.env, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        done = subprocess.run(["sh", "-c", line], cwd=clone, env=env, capture_output=True, text=True, check=False)
        with stack.client() as client:
            flows = {flow.id: flow.name for flow in client.read_flows()}
            found = client.read_deployments()
            pools = {pool.name: pool.type for pool in client.read_work_pools()}

    assert done.returncode == 0, done.stdout + done.stderr
    assert {(flows[each.flow_id], each.name, each.work_pool_name) for each in found} == wanted
    assert pools == {"nights": "process", "webhooks": "calltally"}
