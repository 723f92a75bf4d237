"""Weights that may be in the cache, on the network, or out of reach; no test uses the network."""
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import torch
import torchvision

from lwcourse.weights import official
from lwcourse.weights.official import answers

FILE = "mobilenet_v2-b0353104.pth"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """PyTorch's cache of weights, empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def server():
    """A server whose status is `server.status`."""
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(self.server.status)
            self.end_headers()

        def log_message(self, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        http.status = 200
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield http
        http.shutdown()


def test_cached_weights_need_no_network(cache, monkeypatch):
    torch.manual_seed(7)
    stored = torchvision.models.mobilenet_v2().state_dict()
    torch.save(stored, cache / FILE)
    monkeypatch.setattr(official, "answers", lambda url, seconds: pytest.fail("the network was asked"))
    found = official.published("torchvision", "mobilenet_v2", "IMAGENET1K_V1")
    assert all(torch.equal(found[key], stored[key]) for key in stored)


def test_download_that_falls_silent_is_given_up_and_leaves_no_trace(cache, monkeypatch):
    limits = []

    def break_off(*args, **kwargs):
        limits.append(socket.getdefaulttimeout())
        raise TimeoutError("the line fell silent")

    monkeypatch.setattr(official, "answers", lambda url, seconds: True)
    monkeypatch.setattr(torch.hub, "download_url_to_file", break_off)
    before = socket.getdefaulttimeout()
    with pytest.raises(ConnectionError, match="cannot be fetched now: the file is .*the line fell silent"):
        official.published("torchvision", "mobilenet_v2", "IMAGENET1K_V1")
    assert limits == [10.0] and socket.getdefaulttimeout() == before
    assert list(cache.iterdir()) == []


def test_a_server_answers(server):
    url = f"http://127.0.0.1:{server.server_port}/weights.pth"
    assert answers(url, 5.0)
    server.status = 403  # as a proxy says that lets nothing through
    assert not answers(url, 5.0)


def test_a_closed_port_does_not_answer():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert not answers(f"http://127.0.0.1:{port}/", 5.0)


def test_a_silent_server_is_not_waited_for():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        assert not answers(f"http://127.0.0.1:{silent.getsockname()[1]}/", 0.2)


def test_a_look_up_that_hangs_is_not_waited_for(monkeypatch):
    begun, released, ended = threading.Event(), threading.Event(), threading.Event()

    def hang(*args, **kwargs):
        begun.set()
        released.wait(30)
        ended.set()
        raise socket.gaierror("no answer")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    assert not answers("http://example.invalid/", 0.2)
    assert begun.is_set() and not ended.is_set()
    released.set()
    assert ended.wait(30)
