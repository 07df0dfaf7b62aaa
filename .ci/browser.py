"""Shows a page in a real browser for some seconds of real time, which --dump-dom cannot: it waits for no events.

browser.py CHROMIUM URL SECONDS SCREENSHOT [EXPRESSION]: prints what the page's console says, then the value of each EXPRESSION as JSON,
before and after these seconds. A few lines of Chromium's own protocol (DevTools over a WebSocket), so that nothing is installed.
"""

import base64
import json
import os
import re
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request


class Tab:
    def __init__(self, address):
        host, path = re.match(r"ws://([^/]+)(/.*)", address).groups()
        name, port = host.split(":")
        self.stream = socket.create_connection((name, int(port)), timeout=60)
        key = base64.b64encode(os.urandom(16)).decode()
        self.stream.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self.reader = self.stream.makefile("rb")
        while self.reader.readline() != b"\r\n":
            pass
        self.number, self.events = 0, []

    def message(self):
        whole = b""
        while True:
            first, length = self.reader.read(2)
            length &= 127
            if length > 125:
                length = int.from_bytes(self.reader.read(2 if length == 126 else 8), "big")
            whole += self.reader.read(length)
            if first & 128:
                return json.loads(whole)

    def ask(self, method, **parameters):
        self.number += 1
        text = json.dumps({"id": self.number, "method": method, "params": parameters}).encode()
        size = struct.pack(">BBH", 129, 254, len(text)) if len(text) < 65536 else struct.pack(">BBQ", 129, 255, len(text))
        # A mask of zeros is a mask.
        self.stream.sendall(size + bytes(4) + text)
        while True:
            message = self.message()
            if message.get("id") == self.number:
                return message["result"]
            self.events.append(message)


def main(chromium, url, seconds, screenshot, *expressions):
    with tempfile.TemporaryDirectory() as profile:
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1280,1500", "--remote-debugging-port=0"]
        browser = subprocess.Popen([chromium, *flags, f"--user-data-dir={profile}", "about:blank"], stderr=subprocess.PIPE, text=True)
        try:
            port = next(m[1] for line in browser.stderr if (m := re.search(r"ws://127\.0\.0\.1:(\d+)/", line)))
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list") as answer:
                tab = Tab(next(page["webSocketDebuggerUrl"] for page in json.load(answer) if page["type"] == "page"))
            tab.ask("Runtime.enable")
            tab.ask("Log.enable")
            tab.ask("Page.navigate", url=url)
            value = lambda text: tab.ask("Runtime.evaluate", expression=text, returnByValue=True)["result"].get("value")
            time.sleep(float(seconds) / 2)
            before = [value(text) for text in expressions]
            time.sleep(float(seconds) / 2)
            after = [value(text) for text in expressions]
            with open(screenshot, "wb") as file:
                file.write(base64.b64decode(tab.ask("Page.captureScreenshot")["data"]))
            said = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
            for event in tab.events:
                if event.get("method") in said:
                    print("CONSOLE", json.dumps(event["params"]))
            for pair in zip(before, after):
                print(json.dumps(pair))
        finally:
            browser.terminate()
            browser.wait()


main(*sys.argv[1:])
