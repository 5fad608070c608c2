"""The status page in a real browser, through the proxy of a real API server."""

from collections.abc import Callable
from urllib.parse import urlsplit

from playwright.sync_api import Browser, expect

from e2e.harness.browser import PROGRESS, Traffic, window
from e2e.harness.control_plane import ControlPlane
from e2e.harness.pods import restricted
from e2e.harness.service import Service
from e2e.harness.site import HOST, Site
from e2e.harness.workspace import ADDRESS, Workspace

MakeService = Callable[..., Service]

APP = f"{HOST}/team/app:1.2.3"


def test_the_pages_work_through_the_proxy_of_the_api_server(
    control_plane: ControlPlane,
    namespace: str,
    workspace: Workspace,
    make_service: MakeService,
    browser: Browser,
) -> None:
    """It writes the HTML again, so the hashes of the policy must still fit."""
    admin, pods = control_plane.admin, f"/api/v1/namespaces/{namespace}/pods"
    admin.post(pods, {"metadata": {"name": "puller"}, "spec": restricted("example.com/none:1")})
    address = {"podIP": ADDRESS, "podIPs": [{"ip": ADDRESS}]}
    admin.patch(f"{pods}/puller/status", {"status": address})
    token = {"Authorization": f"Bearer {control_plane.admin_token}"}
    with (
        Site(workspace, make_service, {"app": "1.2.3"}, nodes=3, READ_AUTH="none") as site,
        window(browser, extra_http_headers=token, ignore_https_errors=True) as context,
    ):
        site.push("app", "1.2.4")
        url = f"{control_plane.url}{pods}/puller:{urlsplit(site.url).port}/proxy/"
        page, traffic = context.new_page(), Traffic()
        traffic.watch(page)
        page.goto(url)
        page.get_by_role("link", name=APP).click()
        expect(page.locator("h1")).to_have_text(APP)
        page.get_by_role("link", name="node-2").click()
        expect(page).to_have_url(f"{url}nodes/node-2")
        page.get_by_role("link", name="Kubernetes Image Puller").click()
        expect(page).to_have_url(url)
        expect(page.locator(PROGRESS)).not_to_have_text("3 of 3")
        site.cluster.settle()
        expect(page.locator(PROGRESS)).to_have_text("3 of 3")
        assert traffic.console == []
