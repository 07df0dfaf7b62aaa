"""Parts of .ci/serve: a small server around ONNX Runtime, a load of requests, a client from PyPI."""

import json
import socket
import sys
import threading
import time

CLIENTS, REQUESTS, IMAGES, SHAPE = 32, 10_000, 64, (1, 1, 28, 28)


def images():
    import numpy as np

    return np.random.default_rng(0).normal(size=(IMAGES, *SHAPE)).astype(np.float32)


def answers(model):
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return [session.run(None, {"input": image})[0] for image in images()]


def onnxruntime(model):
    """POST the bytes of an image, get the bytes of its scores."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            scores = session.run(None, {"input": np.frombuffer(body, np.float32).reshape(SHAPE)})[0].tobytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(scores)))
            self.end_headers()
            self.wfile.write(scores)

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 128

    server = Server(("127.0.0.1", 0), Handler)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


def request(kind, image):
    binary = image.tobytes()
    if kind == "onnxruntime":
        return f"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(binary)}\r\n\r\n".encode() + binary
    inputs = [{"name": "input", "shape": SHAPE, "datatype": "FP32", "parameters": {"binary_data_size": len(binary)}}]
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    return (
        f"POST /v2/models/model/infer HTTP/1.1\r\nHost: localhost\r\nInference-Header-Content-Length: {len(head)}\r\n"
        f"Content-Length: {len(head) + len(binary)}\r\n\r\n"
    ).encode() + head + binary


def exchange(stream, reader, message):
    """Sends a request; gives the status and the last 40 bytes of the answer, which are the scores."""
    stream.sendall(message)
    status = int(reader.readline().split()[1])
    length = 0
    while (line := reader.readline()) != b"\r\n":
        name, value = line.split(b":", 1)
        if name.lower() == b"content-length":
            length = int(value)
    return status, reader.read(length)[-40:]


def memory(process):
    with open(f"/proc/{process}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))


def load(model, kind, address, process):
    import numpy as np

    expected, messages = answers(model), [request(kind, image) for image in images()]
    host, port = address.split(":")
    seconds, wrong, lost, lock = [], [], [], threading.Lock()

    def client(first, count):
        own = []
        with socket.create_connection((host, int(port))) as stream:
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            reader = stream.makefile("rb")
            for number in range(first, first + count):
                started = time.perf_counter()
                try:
                    status, scores = exchange(stream, reader, messages[number % IMAGES])
                except (OSError, IndexError) as error:
                    lost.append(error)
                    return
                own.append(time.perf_counter() - started)
                found = np.frombuffer(scores, np.float32)
                if status != 200 or not np.allclose(found, expected[number % IMAGES][0], rtol=1e-4, atol=1e-4):
                    wrong.append((number, status, found))
        with lock:
            seconds.extend(own)

    def run(count):
        each = -(-count // CLIENTS)
        threads = [threading.Thread(target=client, args=(i * each, each)) for i in range(CLIENTS)]
        started = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.perf_counter() - started

    run(2_000)
    before = memory(process)
    seconds.clear()
    took = run(REQUESTS)
    after = memory(process)
    assert not lost and not wrong, f"{len(lost)} lost {lost[:1]}, {len(wrong)} wrong {wrong[:1]}"
    assert len(seconds) >= REQUESTS
    p50, p99 = (np.quantile(seconds, q) * 1e3 for q in (0.5, 0.99))
    print(
        f"{kind:12} {len(seconds)} requests of {CLIENTS} clients: {len(seconds) / took:6.0f} requests/s, p50 {p50:5.1f} ms, "
        f"p99 {p99:5.1f} ms, memory {before:.0f} to {after:.0f} MiB"
    )
    assert after < before + 16, "memory grows"


def triton(address):
    import numpy as np
    import tritonclient.http as http

    client = http.InferenceServerClient(address)
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("model")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    metadata = client.get_model_metadata("model")
    assert metadata["inputs"][0]["datatype"] == "FP32" and metadata["inputs"][0]["shape"][1:] == [1, 28, 28], metadata
    found = []
    for model in ("model", "run"):
        for image in images()[:8]:
            for binary in (True, False):
                given = http.InferInput("input", list(image.shape), "FP32")
                given.set_data_from_numpy(image, binary_data=binary)
                wanted = http.InferRequestedOutput("output", binary_data=binary)
                for outputs in ([wanted], None):
                    answer = client.infer(model, [given], outputs=outputs, request_id="7")
                    assert answer.get_response()["id"] == "7"
                    found.append(answer.as_numpy("output"))
    for i in range(0, len(found), 4):
        assert all(np.allclose(found[i], other, atol=1e-6) for other in found[i : i + 4])
    for ours, run in zip(found[: len(found) // 2], found[len(found) // 2 :]):
        assert np.allclose(ours, run, rtol=1e-4, atol=1e-4), (ours, run)
    try:
        client.infer("model", [http.InferInput("other", [1], "FP32").set_data_from_numpy(np.zeros(1, np.float32))])
        raise AssertionError("a wrong input is taken")
    except http.InferenceServerException as error:
        assert "there is no input 'other'" in str(error), error
    print(f"tritonclient: {len(found)} answers are right")


{"onnxruntime": onnxruntime, "load": load, "triton": triton}[sys.argv[1]](*sys.argv[2:])
