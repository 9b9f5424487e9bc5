"""Who may ask: names of the server, pages of other sites, HEAD and wrong methods, response headers."""

from __future__ import annotations

import re

import pytest
from asking import PNG

from vitrail.errors import UserError
from vitrail.serve.access import Access

APP = "https://app.example"
OWN = Access.listening("127.0.0.1", ["api.example"], [APP], None)


def statuses(talk, requests, access=OWN, token=None):
    """Of (method, path, headers) each."""

    async def conversation(client, service):
        return [await client.request(method, path, headers=headers) for method, path, headers in requests]

    return talk(conversation, token=token, access=access)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200),
        ("localhost", 200),
        ("LOCALHOST.:80", 200),
        ("[::1]:8000", 200),
        ("10.1.2.3", 200),
        ("api.example:443", 200),
        ("evil.example", 421),
        ("evil.example:8000", 421),
        ("127.0.0.1.evil.example", 421),
        ("evil.example@127.0.0.1", 421),
        ("127.0.0.1/evil", 421),
        ("localhost:99999", 421),
        ("", 421),
    ],
)
def test_a_name_that_is_not_its_own_is_refused(host, status, talk):
    (answer,) = statuses(talk, [("GET", "/v1/models", {"Host": host})])
    assert answer.status_code == status
    assert status == 200 or "--allow-host" in answer.json()["error"]


def test_a_server_for_all_addresses_knows_the_name_of_its_machine(monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "Box")
    assert Access.listening("0.0.0.0", [], [], None).hosts == ("localhost", "box")
    assert Access.listening("127.0.0.1", ["*"], [], None).hosts[-1] == "*"


CROSS = {"Host": "localhost", "Sec-Fetch-Site": "cross-site"}
NAVIGATE = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


@pytest.mark.parametrize(
    ("method", "path", "headers", "refused"),
    [
        ("POST", "/v1/predict", CROSS, True),
        ("GET", "/v1/models", CROSS, True),
        ("GET", "/metrics", CROSS | NAVIGATE, True),
        ("GET", "/", CROSS | NAVIGATE, False),
        ("GET", "/", CROSS | NAVIGATE | {"Sec-Fetch-Dest": "iframe"}, True),
        ("POST", "/v1/predict", {"Host": "localhost", "Origin": "https://evil.example"}, True),
        ("POST", "/v1/predict", {"Host": "localhost", "Origin": "null"}, True),
        ("POST", "/v1/predict", {"Host": "localhost:8000", "Origin": "http://localhost:3000"}, True),
        ("POST", "/v1/predict", {"Host": "localhost:8000", "Origin": "http://localhost:8000"}, False),
        ("POST", "/v1/predict", CROSS | {"Origin": APP}, False),
        ("POST", "/v1/predict", {"Host": "localhost", "Origin": "https://p", "Sec-Fetch-Site": "same-origin"}, False),
        ("POST", "/v1/predict", {"Host": "localhost"}, False),
    ],
)
def test_pages_of_other_sites_are_refused(method, path, headers, refused, talk):
    (answer,) = statuses(talk, [(method, path, headers)])
    assert (answer.status_code == 403) == refused
    assert not refused or "--allow-origin" in answer.json()["error"]


def test_a_page_of_an_allowed_origin_may_read_answers(talk):
    ask = {"Host": "localhost", "Origin": APP, "Access-Control-Request-Method": "POST"}
    ask |= {"Access-Control-Request-Headers": "authorization,content-type"}
    preflight, foreign, answer, refused = statuses(
        talk,
        [
            ("OPTIONS", "/v1/predict", ask),
            ("OPTIONS", "/v1/predict", ask | {"Origin": "https://evil.example"}),
            ("GET", "/v1/models", {"Host": "localhost", "Origin": APP, "Authorization": "Bearer s"}),
            ("GET", "/v1/models", {"Host": "localhost", "Origin": APP}),
        ],
        access=Access.listening("127.0.0.1", [], [APP], "s"),
    )
    assert (preflight.status_code, foreign.status_code, answer.status_code, refused.status_code) == (204, 403, 200, 401)
    assert preflight.headers["access-control-allow-headers"] == "authorization,content-type"
    assert "POST" in preflight.headers["access-control-allow-methods"]
    for each in (preflight, answer, refused):
        assert each.headers["access-control-allow-origin"] == APP
        assert each.headers["vary"] == "Origin"
    assert "access-control-allow-origin" not in foreign.headers


def test_no_page_may_read_answers_unless_it_was_allowed(talk):
    headers = {"Host": "localhost:8000", "Origin": "http://localhost:8000"}
    (answer,) = statuses(talk, [("GET", "/v1/models", headers)], access=Access())
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_every_route_has_head_or_says_which_methods_it_has(talk):
    async def conversation(client, service):
        schema = (await client.get("/openapi.json")).json()["paths"]
        paths = {re.sub(r"{name}", "first", path).replace("{version}", "1"): set(of) for path, of in schema.items()}
        paths |= {path: {"get"} for path in ("/", "/page/page.js", "/openapi.json")}
        found = {}
        for path, methods in paths.items():
            found[path] = methods, await client.get(path), await client.head(path), await client.put(path)
        return found, (await client.get("/metrics")).text

    found, metrics = talk(conversation)
    for path, (methods, get, head, put) in found.items():
        assert (head.status_code, head.content) == (get.status_code, b""), path
        assert set(head.headers) == set(get.headers), path
        assert put.status_code == 405, path
        assert put.headers["allow"] in put.json()["error"]
        if "get" not in methods:
            assert (get.status_code, get.headers["allow"]) == (405, "POST"), path
    assert 'method="HEAD",route="/healthz",status="200"' in metrics


def test_answers_carry_what_browsers_heed(talk):
    (answer,) = statuses(talk, [("GET", "/", {"Host": "localhost"})])
    policy = dict(each.strip().split(" ", 1) for each in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert answer.headers["referrer-policy"] == "no-referrer"


def test_refusals_are_counted_by_reason(talk):
    async def conversation(client, service):
        await client.get("/v1/models", headers={"Host": "evil.example"})
        await client.get("/v1/models", headers=CROSS)
        for content, kind in ((b"x", PNG), (b"{", {"Content-Type": "application/json"}), (bytes(1001), PNG)):
            await client.post("/v1/predict", content=content, headers=kind | {"Host": "localhost"})
        await client.post("/v1/explain?layer=x", headers={"Host": "localhost"})
        return (await client.get("/metrics", headers={"Host": "localhost"})).text

    text = talk(conversation, access=OWN, max_body=1000)
    reasons = dict(re.findall(r'vitrail_refused_total{reason="([^"]+)"} (\d)', text))
    expected = ("host", "cross-site", "unsupported type", "malformed", "body too large", "option")
    assert reasons == dict.fromkeys(expected, "1")


@pytest.mark.parametrize("origin", ["app.example", "https://", "https://a/b", "ftp://a", "https://a b", "null", ""])
def test_origins_that_are_none(origin):
    with pytest.raises(UserError, match="is no origin; write scheme and host"):
        Access(origins=(origin,))


@pytest.mark.parametrize("host", ["https://a", "a:80", "a/b", "a b", "", "ä"])
def test_hosts_that_are_none(host):
    with pytest.raises(UserError, match="is no host name; write it without scheme and port"):
        Access(hosts=(host,))
