"""Pages of other origins, files of the framework, and hosts that nobody asked for: the real server keeps them out."""

from __future__ import annotations

import http.server
import socketserver
import threading
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.browser.conftest import serving, watched
from tests.browser.steps import ask as ask_page
from tests.browser.steps import settle
from tests.browser.visitors import Visitor, ask, knock

pytestmark = pytest.mark.browser

HOSTILE_OPTIONS = """
[global]
developmentMode = true
[server]
enableCORS = false
enableXsrfProtection = false
address = "0.0.0.0"
corsAllowedOrigins = ["http://evil.example"]
enableStaticServing = true
enableAgentApi = true
baseUrlPath = "hidden"
folderWatchList = ["/"]
fileWatcherType = "poll"
maxUploadSize = 100000
sslCertFile = "/etc/hostname"
[browser]
gatherUsageStats = true
serverAddress = "evil.example"
[client]
showErrorDetails = "full"
allowedOrigins = ["https://evil.example"]
[logger]
hideWelcomeMessage = false
[theme]
base = "http://evil.example/theme.toml"
"""
HOSTILE_SECRETS = """
[auth]
redirect_uri = "http://evil.example/oauth2callback"
cookie_secret = "x"
client_id = "x"
client_secret = "x"
server_metadata_url = "http://evil.example/.well-known/openid-configuration"
"""


@contextmanager
def recording_proxy():
    """A proxy that lets nothing through; gives its address and the list of what it was asked for."""
    asked = []

    class Recorder(http.server.BaseHTTPRequestHandler):
        def refuse(self):
            asked.append(self.path)
            self.send_error(502)

        def __getattr__(self, name):
            if name.startswith("do_"):  # of any method
                return self.refuse
            raise AttributeError(name)

        def log_message(self, *_):
            pass

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Recorder) as proxy:
        proxy.daemon_threads = True
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{proxy.server_address[1]}", asked
        finally:
            proxy.shutdown()


@contextmanager
def foreign_site(page):
    """A web server of another origin on this machine, with one page; gives its address."""

    class Site(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *_):
            pass

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Site) as site:
        site.daemon_threads = True
        threading.Thread(target=site.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{site.server_address[1]}"
        finally:
            site.shutdown()


def foreign_origins(address):
    port = urlsplit(address).port
    return [
        "http://127.0.0.1:19000",
        "http://127.0.0.1",
        f"http://localhost:{port}",  # the same server by another name is another origin to a browser
        f"http://0.0.0.0:{port}",
        "http://evil.example",
        "https://8.8.8.8",
        f"{address}.evil.example",
        "null",
    ]


# -- pages of other origins -------------------------------------------------------------------------------------------


def test_a_foreign_origin_opens_no_socket_and_nothing_is_asked_of_another_host(library_path):
    with recording_proxy() as (proxy, asked):
        variables = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"), proxy)
        with serving(library_path, no_proxy="", NO_PROXY="", **variables) as address:
            for origin in foreign_origins(address):
                assert knock(address, origin=origin) == 403, origin
                assert ask(address, "/_stcore/health", Origin=origin)[0] == 403, origin
            assert knock(address, origin=None) == 403
            assert knock(address, origin=address) == 101
            assert knock(address, origin=address.upper().replace("HTTP", "http")) == 101
    assert asked == []


def test_a_page_of_another_port_of_this_machine_reaches_nothing(browser, server):
    script = f"""<!doctype html><title>x</title><script>
      const open = new Promise(done => {{
        const socket = new WebSocket("{server.replace("http", "ws")}/_stcore/stream", ["streamlit"]);
        socket.onopen = () => done("open"); socket.onerror = () => done("refused"); }});
      const image = new Promise(done => {{
        const picture = new Image(); picture.onload = () => done("shown"); picture.onerror = () => done("refused");
        picture.src = "{server}/favicon.png"; }});
      const put = fetch("{server}/_stcore/upload_file/a/b", {{method: "POST", mode: "no-cors", body: "x"}});
      const answer = put.then(got => got.type, () => "refused");
      Promise.all([open, image, answer]).then(found => {{ document.title = found.join(" "); }});
    </script>"""
    with foreign_site(script) as site:
        page = browser.new_page()
        statuses = {}
        page.on("response", lambda response: statuses.update({response.url: response.status}))
        page.goto(site)
        page.wait_for_function("document.title != 'x'")
        assert page.title().split()[:2] == ["refused", "refused"]
        assert statuses[f"{server}/_stcore/upload_file/a/b"] == 403
        page.close()


def test_a_link_on_a_foreign_page_opens_the_page_and_a_frame_does_not(browser, server):
    with foreign_site(f'<a href="{server}/?q=a+car">go</a><iframe src="{server}"></iframe>') as site:
        page = browser.new_page()
        with page.expect_response(lambda response: response.url.startswith(server)) as framed:
            page.goto(site)
        assert framed.value.status == 403
        page.get_by_role("link", name="go").click()
        page.get_by_label("Search by words").wait_for()
        settle(page)
        page.close()


# -- other hosts ------------------------------------------------------------------------------------------------------


def test_a_walk_through_all_pages_asks_nothing_of_another_host(browser, library_path):
    """The browser's requests are watched by ``watched``, the server's go through a proxy that records them."""
    with recording_proxy() as (proxy, asked):
        variables = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), proxy)
        with (
            serving(library_path, no_proxy="", NO_PROXY="", **variables) as address,
            watched(browser, address) as page,
        ):
            ask_page(page, "a yellow car")
            for name in ("Library", "Map", "Duplicates", "Search"):
                page.get_by_role("link", name=name, exact=True).click()
                settle(page)
    assert asked == []


def test_the_page_may_load_nothing_from_another_host(server):
    policy = ask(server, "/")[1]["content-security-policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    own = {"'self'", "'none'", "'unsafe-inline'", "data:", "blob:"}
    own |= {f"ws://{urlsplit(server).netloc}", f"wss://{urlsplit(server).netloc}"}
    sources = {source for rule in rules.values() for source in rule.split() if not source.startswith("'sha256-")}
    assert sources <= own
    assert rules["default-src"] == "'self'"
    scripts = {source for source in rules["script-src"].split() if not source.startswith("'sha256-")}
    assert scripts == {"'self'"}  # and so neither inline scripts nor eval


# -- the framework's files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["working folder", "home", "variables"])
def test_streamlits_own_files_and_variables_change_nothing(library_path, tmp_path, place):
    variables = {}
    if place == "variables":
        variables = {
            "STREAMLIT_SERVER_ENABLE_CORS": "false",
            "STREAMLIT_SERVER_ENABLE_XSRF_PROTECTION": "false",
            "STREAMLIT_SERVER_ADDRESS": "0.0.0.0",
            "STREAMLIT_SERVER_COOKIE_SECRET": "x",
        }
    else:
        (tmp_path / ".streamlit").mkdir()
        (tmp_path / ".streamlit" / "config.toml").write_text(HOSTILE_OPTIONS)
        (tmp_path / ".streamlit" / "secrets.toml").write_text(HOSTILE_SECRETS)
    (tmp_path / "static").mkdir()
    (tmp_path / "static" / "a.txt").write_text("secret")
    if place == "home":
        variables["HOME"] = str(tmp_path)
    with recording_proxy() as (proxy, asked):
        proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), proxy)
        variables |= {"no_proxy": "", "NO_PROXY": "", **proxies}
        log = tmp_path / "log"
        with serving(library_path, log=log, folder=tmp_path if place == "working folder" else None, **variables) as own:
            assert knock(own, origin="http://evil.example") == 403
            assert "access-control-allow-origin" not in ask(own, "/_stcore/health")[1]
            assert ask(own, "/_stcore/health", Origin="http://evil.example")[0] == 403
            assert b"evil" not in ask(own, "/_stcore/host-config")[2]
            assert b"secret" not in ask(own, "/app/static/a.txt")[2]
            assert ask(own, "/_stcore/agent/interact", "POST", b"{}")[0] in (403, 404)
            assert "evil" not in ask(own, "/auth/login")[1].get("location", "")
            listening = listening_addresses(urlsplit(own).port)
            with Visitor(own) as visitor:
                visitor.token = "forged"
                assert visitor.upload("a", b"x") == 403
    assert listening == {"0100007F"}
    assert asked == []
    assert "Traceback" not in log.read_text()


def listening_addresses(port):
    """Addresses of the sockets that listen on a port, as the kernel writes them: bytes in reverse."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {row[1].split(":")[0] for row in rows if row[3] == "0A" and int(row[1].split(":")[1], 16) == port}


# -- headers of proxies -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def password_file(tmp_path_factory):
    from arrowlens.passwords import hash_password, write_hash

    path = tmp_path_factory.mktemp("password") / "hash"
    write_hash(path, hash_password("correct horse"))
    return path


@pytest.mark.parametrize("options", [(), ("--behind-proxy",)])
def test_forwarded_headers_count_only_behind_a_proxy(library_path, password_file, options):
    with serving(library_path, "--password-file", password_file, "--allowed-host", "photos.example", *options) as own:
        form = {"Content_Type": "application/x-www-form-urlencoded", "body": "password=wrong"}
        answers = [
            ask(own, "/login", "POST", **form, X_Forwarded_For=f"203.0.113.9, 198.51.100.{number}")[0]
            for number in range(5)
        ]
        public = {"X_Forwarded_Host": "photos.example", "X_Forwarded_Proto": "https"}
        right = {"Content_Type": form["Content_Type"], "body": "password=correct+horse"}
        origin = ask(own, "/login", "POST", **right, **public, Origin="https://photos.example", X_Forwarded_For="::7")
        if options:
            assert answers == [401] * 5
            assert origin[0] == 303
            assert all("; Secure" in cookie for cookie in origin[1].get_all("set-cookie"))
        else:
            assert answers == [401, 401, 401, 401, 429]
            assert origin[0] == 403
