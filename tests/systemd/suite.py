"""Inside the machine that `run` has booted: the service as systemd runs it, under load."""

import contextlib
import http.client
import http.server
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socketserver
import subprocess
import sys
import threading
import time

HERE = pathlib.Path("/suite")
DOCUMENT = pathlib.Path("/etc/yumen/yumen.yaml")
PORT, ADMIN, ORIGIN = 8080, 9901, 9000
# What is tested as a Debian package, and the same as a later version.
PACKAGE, LATER = HERE / "yumen.deb", HERE / "later.deb"


class Answers(http.server.BaseHTTPRequestHandler):
    """The origin: at once, or after 1.5 s."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/long":
            time.sleep(1.5)
        self.send_response(200)
        self.send_header("content-length", "3")
        self.end_headers()
        self.wfile.write(b"ok\n")

    def log_message(self, *_):
        pass


class Origin(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
    request_queue_size = 1024

    def handle_error(self, *_):
        """A gateway that is killed resets its connections."""


def document(says="one", more=""):
    return f"""version: 1
listeners: {{ web: {{ bind: 0.0.0.0:{PORT} }} }}
pools: {{ app: ["127.0.0.1:{ORIGIN}"] }}
routes:
  all: {{ match: /*, to: app }}
  says: {{ match: /says, respond: {{ body: {says} }} }}
runtime: {{ drain: {{ requests: 10s }} }}
admin: {{ bind: 127.0.0.1:{ADMIN} }}
observe: {{ access_log: {{ to: off }} }}
{more}"""


def write(text):
    new = DOCUMENT.with_suffix(".new")
    new.write_text(text)
    new.rename(DOCUMENT)


def run(*command, check=True):
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100)
    if check and ended.returncode:
        raise AssertionError(f"{' '.join(command)}: {ended.returncode}\n{ended.stdout}{ended.stderr}")
    return ended


def systemctl(*arguments, check=True):
    return run("systemctl", *arguments, check=check)


def show(name):
    return systemctl("show", "yumen", "--value", "-p", name).stdout.strip()


def journal(since):
    return run("journalctl", "--no-pager", "-o", "cat", "-u", "yumen", "--since", f"@{since}").stdout


def pid():
    return int(show("MainPID"))


def generation():
    """The number of the configuration that serves, as the status says it; numbers go on where the last start ended."""
    return int(re.fullmatch(r"generation (\d+) serves, hash .*", show("StatusText"))[1])


def get(path, port=PORT):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return text


def eventually(what, look, patience=20):
    until = time.monotonic() + patience
    while True:
        seen = look()
        if seen:
            return seen
        assert time.monotonic() < until, f"never came: {what}"
        time.sleep(0.02)


class Load:
    """What the clients of `load.py` saw."""

    def __init__(self):
        command = [sys.executable, str(HERE / "systemd/load.py"), str(PORT)]
        self.clients = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        time.sleep(1.5)

    def end(self):
        out, _ = self.clients.communicate(timeout=60)
        seen = json.loads(out)
        self.gap, self.first = seen["gap"], seen["first"]
        self.answered, self.failed = sum(seen["answered"].values()), sum(seen["failed"].values())
        self.refused = sum(count for why, count in seen["failed"].items() if "refused" in why)
        figures.append(f"{self.answered} answered, {self.failed} failed, {self.refused} refused")
        self.why = seen["failed"]


@contextlib.contextmanager
def load(rest=1.5):
    clients = Load()
    try:
        yield clients
        time.sleep(rest)
    finally:
        clients.end()


def nothing_lost(clients):
    assert clients.answered > 200, f"only {clients.answered} requests were answered"
    assert clients.failed == 0, f"{clients.why} {clients.first}"


def nobody_refused(clients):
    assert clients.answered > 200, f"only {clients.answered} requests were answered"
    assert clients.refused == 0, f"{clients.why} {clients.first}"


def back_after(old, patience):
    """Seconds until another process is the service and answers."""
    begun = time.monotonic()
    eventually("another process", lambda: pid() not in (0, old), patience)
    assert get("/says") == "one"
    return time.monotonic() - begun


def left_out(what):
    figures.append(f"LEFT OUT: {what}")


def fresh():
    """The service as it is after a boot."""
    systemctl("stop", "yumen.socket", "yumen.service", check=False)
    shutil.rmtree("/run/systemd/system/yumen.service.d", ignore_errors=True)
    systemctl("daemon-reload")
    write(document())
    systemctl("start", "yumen")


def upgrade(*program, code=0):
    ended = run("yumen", "upgrade", *map(str, program), check=False)
    assert ended.returncode == code, f"{ended.returncode}, not {code}: {ended.stdout}{ended.stderr}"
    return ended.stdout + ended.stderr


def processes():
    """All processes of the service: those that serve, those that drain, and what they have started."""
    found = []
    for group in pathlib.Path("/proc").glob("[0-9]*/cgroup"):
        with contextlib.suppress(OSError):
            if "/yumen.service" in group.read_text():
                found.append(int(group.parent.name))
    return found


def program(name, text):
    path = HERE / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def drop_in(text):
    path = pathlib.Path("/run/systemd/system/yumen.service.d/suite.conf")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"[Service]\n{text}\n")
    systemctl("daemon-reload")


# What holds.


def what_is_installed_serves_at_once():
    assert systemctl("is-enabled", "yumen").stdout.strip() == "enabled"
    assert oct(pathlib.Path("/etc/yumen/tls").stat().st_mode)[-3:] == "750"
    assert pathlib.Path("/etc/yumen/tls").group() == "yumen"
    if PACKAGE.exists():
        assert "I am a gateway." in FIRST_WORDS, "the default document served"
        assert run("man", "--where", "yumen").stdout and pathlib.Path("/usr/share/man/man1/yumen-reload.1.gz").exists()


def it_starts_and_says_so():
    assert get("/says") == "one" and get("/") == "ok\n"
    assert show("ActiveState") == "active" and show("SubState") == "running"
    assert generation() >= 1
    assert show("NFileDescriptorStore") == "3", "both listeners and the control socket are kept"
    assert pathlib.Path(f"/proc/{pid()}/status").stat().st_uid != 0
    assert oct(pathlib.Path("/run/yumen").stat().st_mode)[-3:] == "700"


def its_log_has_priorities():
    since = time.time() - 60
    write(document().replace("match", "mtach", 1))
    eventually("an error", lambda: "mtach" in run("journalctl", "-o", "cat", "-u", "yumen", "-p", "err").stdout)
    warnings = run("journalctl", "--no-pager", "-o", "cat", "-u", "yumen", "-p", "warning", "--since", f"@{since}").stdout
    assert "listening on" in journal(since) and "listening on" not in warnings


def a_reload_loses_nothing():
    before = pid()
    with load() as clients:
        for number in range(5):
            write(document(f"n{number}"))
            systemctl("reload", "yumen")
            assert get("/says") == f"n{number}"
    nothing_lost(clients)
    assert pid() == before


def a_broken_file_fails_the_reload_and_changes_nothing():
    since = time.time()
    with load() as clients:
        write(document().replace("match", "mtach", 1))
        assert systemctl("reload", "yumen", check=False).returncode != 0
        assert get("/says") == "one"
    nothing_lost(clients)
    said = journal(since)
    assert f"{DOCUMENT}:5:10" in said or "yumen.yaml:5:10" in said, said
    eventually("the status", lambda: "the last reload was refused: " in show("StatusText"))
    assert show("ActiveState") == "active"
    write(document())
    systemctl("reload", "yumen")
    assert "refused" not in show("StatusText")


def hup_reloads():
    before = generation()
    write(document("two"))
    os.kill(pid(), signal.SIGHUP)
    eventually("the new document", lambda: get("/says") == "two")
    eventually("the status", lambda: generation() == before + 1)


def a_restart_refuses_nobody():
    before = pid()
    with load(rest=3) as clients:
        systemctl("restart", "yumen")
    nothing_lost(clients)
    assert pid() != before


def killed_it_is_back_and_nobody_was_refused():
    with load(rest=3) as clients:
        before = pid()
        os.kill(before, signal.SIGKILL)
        took = back_after(before, 2)
    nobody_refused(clients)
    figures.append(f"back after {took:.2f} s")


def one_that_hangs_is_killed_and_nobody_was_refused():
    drop_in("WatchdogSec=2s")
    systemctl("restart", "yumen")
    with load(rest=3) as clients:
        before = pid()
        os.kill(before, signal.SIGSTOP)
        took = back_after(before, 10)
    nobody_refused(clients)
    assert "watchdog" in journal(time.time() - 20).lower()
    figures.append(f"back after {took:.2f} s")


def a_stop_finishes_what_is_in_flight():
    answers = []
    asking = [threading.Thread(target=lambda: answers.append(get("/long"))) for _ in range(10)]
    for client in asking:
        client.start()
    time.sleep(0.5)
    systemctl("stop", "yumen")
    for client in asking:
        client.join()
    assert answers == ["ok\n"] * 10, answers
    assert show("Result") == "success" and show("ExecMainStatus") == "0"
    assert not pathlib.Path("/run/yumen").exists()


def a_term_from_elsewhere_is_followed_by_a_start():
    before = pid()
    os.kill(before, signal.SIGTERM)
    back_after(before, 10)


def a_socket_unit_passes_its_socket():
    systemctl("stop", "yumen")
    systemctl("start", "yumen.socket")
    assert show("ActiveState") == "inactive"
    assert get("/says") == "one", "the first client starts it"
    eventually("it says so", lambda: show("ActiveState") == "active")
    assert show("NFileDescriptorStore") == "2", "what systemd bound is not ours to keep"
    with load(rest=3) as clients:
        systemctl("restart", "yumen")
        upgrade()
    nothing_lost(clients)
    assert show("NFileDescriptorStore") == "2"
    systemctl("stop", "yumen.socket")


def what_cannot_be_mended_by_starting_again_is_not_started_again():
    systemctl("stop", "yumen")
    write("nonsense: 1\n")
    assert systemctl("start", "yumen", check=False).returncode != 0
    time.sleep(0.5)
    assert show("ActiveState") == "failed" and show("ExecMainStatus") == "78", show("ActiveState")
    assert show("NRestarts") == "0"


def a_credential_is_read_where_the_document_says():
    pathlib.Path("/root/greeting").write_text("secret-greeting\n")
    os.chmod("/root/greeting", 0o600)
    drop_in("LoadCredential=greeting:/root/greeting")
    says = "response: { set: { x-greeting: file:/run/credentials/yumen.service/greeting } }"
    write(document().replace("respond: { body: one } }", f"respond: {{ body: one }}, {says} }}"))
    systemctl("restart", "yumen")
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=20)
    connection.request("GET", "/says")
    assert connection.getresponse().getheader("x-greeting") == "secret-greeting"


def it_is_shut_in():
    """What the sandbox forbids the running process, seen from the kernel."""
    status = dict(line.split(":\t", 1) for line in pathlib.Path(f"/proc/{pid()}/status").read_text().splitlines())
    assert int(status["CapBnd"], 16) == int(status["CapEff"], 16) == 1 << 10, "CAP_NET_BIND_SERVICE alone"
    assert status["NoNewPrivs"].strip() == "1" and status["Seccomp"].strip() == "2"
    assert get("/metrics", ADMIN).count("process_resident_memory_bytes") > 0, "metrics cope without /proc of others"


def twenty_upgrades_in_a_row_lose_nothing():
    seen, first = {pid()}, generation()
    with load(rest=3) as clients:
        for number in range(20):
            said = upgrade()
            seen.add(pid())
            assert f"process {pid()} serves, generation {first + number + 1}" in said, said
    nothing_lost(clients)
    assert len(seen) == 21 and show("NRestarts") == "0" and show("ActiveState") == "active"
    assert show("NFileDescriptorStore") == "3", "each socket is kept once"
    assert generation() == first + 20
    assert len(processes()) <= 5, "at most four drain"
    eventually("they have gone", lambda: processes() == [pid()])


def a_reload_that_needs_a_new_process_hands_over():
    before = pid()
    with load() as clients:
        write(document().replace("runtime: {", "runtime: { workers: 3,"))
        systemctl("reload", "yumen")
        assert pid() != before
    nothing_lost(clients)


def a_successor_that_fails_changes_nothing():
    before = pid()
    ends = program("ends", "exit 1")
    crashes = program("crashes", 'case "$*" in *=launch) exec setsid "$0" run --takeover=serve ;; *) kill -SEGV $$ ;; esac')
    with load() as clients:
        for broken in [ends, crashes]:
            assert "serves on" in upgrade(broken, code=75)
        upgrade("/nowhere", code=66)
        write(document().replace("match", "mtach", 1))
        assert "yumen.yaml:5:" in upgrade(code=78)
        write(document())
    nothing_lost(clients)
    assert pid() == before and processes() == [before] and show("ActiveState") == "active"
    upgrade()
    assert pid() != before, "and the next one may"


def a_successor_that_hangs_is_given_up():
    before = pid()
    hangs = program("hangs", "sleep 600")
    with load() as clients:
        begun = time.monotonic()
        upgrade(hangs, code=75)
        figures.append(f"given up after {time.monotonic() - begun:.0f} s")
    nothing_lost(clients)
    eventually("nothing is left of it", lambda: processes() == [before])
    assert pid() == before and show("ActiveState") == "active"


def the_second_generation_is_watched_like_the_first():
    with load(rest=3) as clients:
        upgrade()
        second = pid()
        os.kill(second, signal.SIGKILL)
        took = back_after(second, 10)
    nobody_refused(clients)
    figures.append(f"back after {took:.2f} s")
    assert took < 3, "what drains has a second, then comes the next start"
    eventually("only it is left", lambda: processes() == [pid()])
    upgrade()
    second = pid()
    eventually("nobody drains", lambda: processes() == [second])
    os.kill(second, signal.SIGKILL)
    took = back_after(second, 2)
    figures.append(f"with nobody draining after {took:.2f} s")


def a_second_generation_that_hangs_is_killed():
    drop_in("WatchdogSec=2s")
    systemctl("restart", "yumen")
    upgrade()
    second = pid()
    time.sleep(3)
    assert pid() == second, "it feeds the watchdog"
    os.kill(second, signal.SIGSTOP)
    back_after(second, 10)


def a_second_generation_is_stopped_as_gently():
    upgrade()
    a_stop_finishes_what_is_in_flight()


def signals_in_any_order_refuse_nobody():
    orders = [signal.SIGHUP, signal.SIGUSR2, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1] * 2
    random.Random(20).shuffle(orders)
    with load(rest=6) as clients:
        for order in orders:
            with contextlib.suppress(ProcessLookupError):
                os.kill(eventually("a process", pid), order)
            time.sleep(0.3)
    nobody_refused(clients)
    eventually("it serves", lambda: show("ActiveState") == "active")
    assert get("/says") == "one"


def who_asks_nobody_is_told_so():
    systemctl("stop", "yumen")
    upgrade(code=69)
    assert run("yumen", "reload", "--wait", check=False).returncode == 69


def a_package_is_upgraded_without_a_lost_request():
    if not PACKAGE.exists():
        return left_out("the package")
    edited = document("mine")
    write(edited)
    systemctl("reload", "yumen")
    before = pid()
    with load(rest=3) as clients:
        run("dpkg", "--install", str(LATER))
    nothing_lost(clients)
    assert DOCUMENT.read_text() == edited and get("/says") == "mine", "the document is the operator's"
    assert show("ActiveState") == "active" and show("NRestarts") == "0"
    assert pid() != before, "the new program serves"


def a_package_that_is_removed_leaves_the_document_and_purged_nothing():
    if not PACKAGE.exists():
        return left_out("the package")
    run("dpkg", "--remove", "yumen")
    assert show("ActiveState") == "inactive" and not pathlib.Path("/usr/bin/yumen").exists()
    assert DOCUMENT.read_text() == document()
    assert systemctl("is-enabled", "yumen", check=False).returncode != 0
    run("dpkg", "--purge", "yumen")
    for gone in ["/etc/yumen", "/var/lib/yumen", "/var/log/yumen", "/run/yumen", "/lib/systemd/system/yumen.service"]:
        assert not pathlib.Path(gone).exists(), gone
    install()
    assert systemctl("is-enabled", "yumen").stdout.strip() == "enabled", "and it can come again"
    eventually("it runs", lambda: show("ActiveState") == "active")


SCENARIOS = [
    what_is_installed_serves_at_once,
    it_starts_and_says_so,
    it_is_shut_in,
    its_log_has_priorities,
    a_reload_loses_nothing,
    a_broken_file_fails_the_reload_and_changes_nothing,
    hup_reloads,
    a_restart_refuses_nobody,
    killed_it_is_back_and_nobody_was_refused,
    one_that_hangs_is_killed_and_nobody_was_refused,
    a_stop_finishes_what_is_in_flight,
    a_term_from_elsewhere_is_followed_by_a_start,
    a_socket_unit_passes_its_socket,
    what_cannot_be_mended_by_starting_again_is_not_started_again,
    a_credential_is_read_where_the_document_says,
    twenty_upgrades_in_a_row_lose_nothing,
    a_reload_that_needs_a_new_process_hands_over,
    a_successor_that_fails_changes_nothing,
    a_successor_that_hangs_is_given_up,
    the_second_generation_is_watched_like_the_first,
    a_second_generation_that_hangs_is_killed,
    a_second_generation_is_stopped_as_gently,
    signals_in_any_order_refuse_nobody,
    who_asks_nobody_is_told_so,
    a_package_is_upgraded_without_a_lost_request,
    a_package_that_is_removed_leaves_the_document_and_purged_nothing,
]


def install():
    """The package; where there is none, by hand what it brings."""
    if PACKAGE.exists():
        run("dpkg", "--install", str(PACKAGE))
        return
    shutil.copy(HERE / "yumen", "/usr/bin/yumen")
    for name in ["yumen.service", "yumen.socket"]:
        shutil.copy(HERE / "systemd" / name, "/lib/systemd/system/")
    for kind in ["sysusers", "tmpfiles"]:
        shutil.copy(HERE / f"systemd/{kind}.d/yumen.conf", f"/usr/lib/{kind}.d/")
    DOCUMENT.parent.mkdir(exist_ok=True)
    run("systemd-sysusers")
    run("systemd-tmpfiles", "--create", "/usr/lib/tmpfiles.d/yumen.conf")
    systemctl("daemon-reload")
    systemctl("enable", "yumen")


def main():
    wanted = sys.argv[1:]
    origin = Origin(("127.0.0.1", ORIGIN), Answers)
    threading.Thread(target=origin.serve_forever, daemon=True).start()
    install()
    if PACKAGE.exists():
        eventually("it serves", lambda: show("ActiveState") == "active")
        FIRST_WORDS.append(get("/teapot").strip())
    bad = 0
    for scenario in SCENARIOS:
        name = scenario.__name__.replace("_", " ")
        if wanted and not any(word in scenario.__name__ for word in wanted):
            continue
        figures.clear()
        begun, result = time.monotonic(), "PASS"
        try:
            fresh()
            scenario()
        except Exception as why:
            bad += 1
            result = f"FAIL {type(why).__name__}: {why}"
            log = run("journalctl", "--no-pager", "-u", "yumen", "-n", "30", check=False).stdout
            figures.append("\n" + log)
        print(f"[{time.monotonic() - begun:5.1f}s] {name}: {result} {'; '.join(figures)}", flush=True)
    print(f"{len(SCENARIOS)} scenarios, {bad} failed" if not wanted else f"{bad} failed")
    sys.exit(1 if bad else 0)


figures, FIRST_WORDS = [], []
if __name__ == "__main__":
    main()
