"""A person logs in to Prefect's pages and starts every flow by its form, touching nothing: in a real browser."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from prefect import Flow
from prefect.client.schemas.objects import FlowRun
from prefect.flows import load_flow_from_entrypoint

from calltally.stack.deployments import install_deployments, read_deployments
from tests.docs.browser import browsing, is_there
from tests.stack.serving import serving

LOGIN = "operator:secret of the browser"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not is_there(), reason="chromium is not installed: apt-get install chromium")
def test_every_form_starts_its_run_when_nothing_is_touched(postgres_url: str, tmp_path: Path) -> None:
    """The pages ask for the password once; what a form sends is what its flow takes."""
    with serving(postgres_url, tmp_path / "home", auth_string=LOGIN) as stack, browsing() as browser:
        deployments = asyncio.run(install_deployments())
        pages = stack.env["PREFECT_API_URL"].removesuffix("/api")
        browser.log_in(pages, LOGIN)
        sent: dict[str, FlowRun] = {}
        for deployment in read_deployments():
            browser.open(f"{pages}/deployments/deployment/{deployments[deployment.name]}/run")
            browser.press("Submit")
            browser.until("!location.pathname.endsWith('/run')")
            browser.picture(tmp_path / f"{deployment.name}.png")
            with stack.client() as client:
                runs = [run for run in client.read_flow_runs() if not run.auto_scheduled]
            (sent[deployment.name],) = (run for run in runs if run.deployment_id == deployments[deployment.name])

    assert set(sent) == set(deployments)
    for deployment in read_deployments():
        flow: Flow[..., Any] = load_flow_from_entrypoint(deployment.entrypoint, use_placeholder_flow=False)
        parameters = sent[deployment.name].parameters
        assert [name for name, content in parameters.items() if content in (None, [], "")] == []
        flow.validate_parameters(parameters)
