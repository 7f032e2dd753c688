"""The mailroom demo: its server, its reading of mail files, and the whole thing run as its users run it."""

from __future__ import annotations

import argparse
import re
import signal
import smtplib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import examples.mailroom.__main__ as demo
import httpx
import pytest
from examples.mailroom.deliver import plan
from examples.mailroom.letters import (
    DEFAULT_SENDER,
    SHIPPED,
    Folder,
    FolderError,
    LetterError,
    parse,
    printable,
    read_folder,
)
from examples.mailroom.report import check_mailbox, percentile
from examples.mailroom.server import HOST, MailServer, Manner, Received, manner

ROOT = Path(__file__).parents[2]
MAIL = b"X-Mailroom-Id: 7\r\nSubject: test\r\n\r\nHello\r\n"


@pytest.fixture
def server() -> Iterator[MailServer]:
    with MailServer(greylist_seconds=0.2) as running:
        yield running


@pytest.fixture
def client(server: MailServer) -> Iterator[smtplib.SMTP]:
    connection = smtplib.SMTP(local_hostname="client.example.org", timeout=10)
    connection.connect(HOST, server.port)
    yield connection
    connection.close()


class TestServer:
    def test_accepts_a_plain_recipient_and_keeps_the_bytes(self, server: MailServer, client: smtplib.SMTP) -> None:
        mail = MAIL + b".\r\n..two dots\r\n\xc3\xa4 8bit\r\n"
        client.sendmail("a@example.org", ["b@example.com"], mail)
        assert server.mailbox == [Received("7", "a@example.org", "b@example.com", mail)]

    def test_keeps_duplicates_so_that_they_can_be_counted(self, server: MailServer, client: smtplib.SMTP) -> None:
        for _ in range(2):
            client.sendmail("a@example.org", ["b@example.com", "c@example.com"], MAIL)
        assert [each.recipient[0] for each in server.mailbox] == ["b", "c", "b", "c"]

    @pytest.mark.parametrize(
        ("recipient", "code"),
        [("gone.x@example.org", 550), ("full.x@example.org", 552), ("busy.x@example.org", 451)],
    )
    def test_refuses_every_time(self, server: MailServer, client: smtplib.SMTP, recipient: str, code: int) -> None:
        client.ehlo()
        for _ in range(2):
            client.mail("a@example.org")
            assert client.rcpt(recipient)[0] == code
            client.rset()
        assert server.mailbox == []
        assert server.replies[str(code)] == 2

    def test_greylists_each_sender_and_recipient_until_a_time_has_passed(self, client: smtplib.SMTP) -> None:
        client.ehlo()
        client.mail("a@example.org")
        assert client.rcpt("grey.x@example.org")[0] == 450
        assert client.rcpt("grey.x@example.org")[0] == 450
        time.sleep(0.25)
        assert client.rcpt("grey.x@example.org")[0] == 250
        client.rset()
        client.mail("other@example.org")
        assert client.rcpt("grey.x@example.org")[0] == 450

    def test_is_slow(self, client: smtplib.SMTP) -> None:
        client.ehlo()
        client.mail("a@example.org")
        began = time.monotonic()
        assert client.rcpt("slow.x@example.org")[0] == 250
        assert 0.29 < time.monotonic() - began < 10

    def test_does_not_answer_the_first_time(self, server: MailServer, client: smtplib.SMTP) -> None:
        client.ehlo()
        client.mail("a@example.org")
        client.sock.settimeout(0.2)  # type: ignore[union-attr]
        with pytest.raises(smtplib.SMTPServerDisconnected):
            client.rcpt("stuck.x@example.org")
        with smtplib.SMTP(HOST, server.port, local_hostname="client.example.org", timeout=10) as second:
            second.sendmail("a@example.org", ["stuck.x@example.org"], MAIL)
        assert len(server.mailbox) == 1

    def test_hangs_up_only_before_it_accepts(self, server: MailServer) -> None:
        failures = 0
        for recipient in (f"flaky.{n}@example.org" for n in range(6)):
            for _ in range(3):
                try:
                    with smtplib.SMTP(HOST, server.port, local_hostname="client.example.org", timeout=10) as each:
                        each.sendmail("a@example.org", [recipient], MAIL)
                except OSError:
                    failures += 1
                else:
                    break
        assert [each.recipient for each in server.mailbox] == [f"flaky.{n}@example.org" for n in range(6)]
        assert 6 < failures < 12, "some hang up once, some twice"
        assert server.replies["hung up"] == failures

    def test_two_servers_have_ports_of_their_own(self, server: MailServer) -> None:
        with MailServer() as other:
            assert 0 != server.port != other.port != 0

    def test_manners(self) -> None:
        assert manner("GREY.Anna@Example.org") is Manner.GREY
        assert manner("greyhound@example.org") is Manner.PLAIN
        assert manner("anna.grey@example.org") is Manner.PLAIN
        hashed = [manner(f"person{n}@example.org", by_hash=True) for n in range(400)]
        assert {Manner.PLAIN, Manner.GREY, Manner.SLOW, Manner.GONE, Manner.FLAKY} <= set(hashed)
        assert hashed.count(Manner.PLAIN) > 160
        assert hashed == [manner(f"Person{n}@example.org", by_hash=True) for n in range(400)]


class TestLetters:
    def test_bcc_receives_and_is_taken_out(self) -> None:
        letter = parse("x", b"From: a@x.org\nTo: b@x.org\nBcc: c@x.org,\n d@x.org\nSubject: s\n\nbcc: stays\n")
        assert letter.recipients == ("b@x.org", "c@x.org", "d@x.org")
        assert letter.content == b"From: a@x.org\r\nTo: b@x.org\r\nSubject: s\r\n\r\nbcc: stays\r\n"

    def test_a_person_named_twice_is_one_recipient(self) -> None:
        assert parse("x", b"To: B@x.org, b@x.org\nCc: b@X.org\n\n").recipients == ("B@x.org",)

    @pytest.mark.parametrize(
        ("field", "recipients"),
        [
            ("Müller <m@x.org>, 用户@x.org", ("m@x.org", "用户@x.org")),
            ("=?utf-8?q?M=C3=BCller=2C_Max?= <m@x.org>", ("m@x.org",)),
            ('"Moe, Jr." <moe@x.org>, "a b"@x.org', ("moe@x.org", '"a b"@x.org')),
            ("Team: a@x.org, b@x.org;", ("a@x.org", "b@x.org")),
        ],
    )
    def test_ways_to_write_addresses(self, field: str, recipients: tuple[str, ...]) -> None:
        assert parse("x", f"To: {field}\n\n".encode()).recipients == recipients

    @pytest.mark.parametrize(
        ("raw", "reason"),
        [
            (b"", "empty"),
            (b"\r\n \n", "empty"),
            (b"\x00\x01\x02", "line 1 is not a header field"),
            (b"From: a@x.org\nno field\n\n", "line 2 is not a header field"),
            (b"From: a@x.org\nSubject: s\n\nTo: b@x.org\n", "no recipient in To, Cc or Bcc"),
            (b"To: undisclosed-recipients:;\n\n", "no recipient"),
            (b"To: root\n\n", "no usable recipient: root"),
        ],
    )
    def test_what_cannot_be_delivered_is_said(self, raw: bytes, reason: str) -> None:
        with pytest.raises(LetterError, match=re.escape(reason)):
            parse("x", raw)

    @pytest.mark.parametrize("raw", [b"To: b@x.org", b"\xef\xbb\xbfTo: b@x.org\n\n", b"From me Tue\nTo: b@x.org\n\nhi"])
    def test_what_is_forgiven(self, raw: bytes) -> None:
        letter = parse("x", raw)
        assert (letter.sender, letter.recipients) == (DEFAULT_SENDER, ("b@x.org",))
        assert letter.content.startswith(b"To: b@x.org\r\n\r\n")
        assert letter.content.endswith(b"\r\n")

    @pytest.mark.parametrize(
        "field",
        [b'"a\x0bRSET"@x.org', b"b@x.org\x00", b"<c@x.org>\n <d@x.org>", b"e@x.org>\x1b[2J", b"f@x .org\x85DATA"],
    )
    def test_no_address_can_carry_a_second_command(self, field: bytes) -> None:
        recipients = parse("x", b"To: " + field + b"\nCc: ok@x.org\n\n").recipients
        assert recipients[-1] == "ok@x.org"
        assert all(address.isprintable() and not set(address) & set(' <>"') for address in recipients)

    def test_the_shipped_folder(self) -> None:
        folder = read_folder(SHIPPED)
        assert len(folder.letters) >= 40
        assert {name[3:-4] for name, _ in folder.skipped} == {"no-recipient", "one-bad-recipient", "not-a-message"}
        deliveries = list(plan(folder.letters, 3))
        assert len({each.id for each in deliveries}) == len(deliveries)
        met = {manner(each.recipient) for each in deliveries}
        assert met == set(Manner)
        assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 1_000_000

    def test_folders_that_cannot_be_used(self, tmp_path: Path) -> None:
        (tmp_path / "note.txt").write_text("no mail")
        for folder, reason in (
            (tmp_path / "none", "no folder"),
            (tmp_path / "note.txt", "not a folder"),
            (tmp_path, "no .eml file"),
        ):
            with pytest.raises(FolderError, match=reason):
                read_folder(folder)

    def test_names_cannot_reach_the_terminal(self) -> None:
        assert printable("a\x1b[2J\nb\udcff") == "a?[2J?b?"
        assert len(printable("x" * 1000)) == 120


class TestCheck:
    accepted = {"1": ("b@x.org", b"one"), "2": ("b@x.org", b"two")}  # noqa: RUF012
    one = Received("1", "a@x.org", "b@x.org", b"one")
    two = Received("2", "a@x.org", "b@x.org", b"two")
    three = Received("3", "a@x.org", "b@x.org", b"three")

    def test_passes(self) -> None:
        check = check_mailbox(self.accepted, [self.two, self.one])
        assert str(check) == "mailbox check: 2 accepted, 2 held exactly once: OK"
        assert check_mailbox(self.accepted, [self.one, self.two, self.three], unsure={"3"}).passed

    @pytest.mark.parametrize(
        ("mailbox", "fault"),
        [
            ([one], "accepted and not held: 1 (2)"),
            ([one, two, one], "held more than once: 1 (1)"),
            ([one, two, three], "held and not known as accepted: 1 (3)"),
            ([one, Received("2", "a@x.org", "b@x.org", b"tw")], "changed on the way: 1 (2)"),
            ([one, Received("2", "a@x.org", "c@x.org", b"two")], "changed on the way: 1 (2)"),
        ],
    )
    def test_fails(self, mailbox: list[Received], fault: str) -> None:
        check = check_mailbox(self.accepted, mailbox)
        assert not check.passed
        assert "FAILED" in str(check)
        assert check.faults == (fault,)

    def test_percentiles(self) -> None:
        values = [float(n) for n in range(1, 101)]
        assert [percentile(values, p) for p in (50, 99, 100)] == [50, 99, 100]
        assert percentile([3.0], 50) == percentile([3.0], 99) == 3.0


class DoublingServer(MailServer):
    async def handle_DATA(self, *call: Any) -> str:
        await super().handle_DATA(*call)
        return await super().handle_DATA(*call)


class LosingServer(MailServer):
    async def handle_DATA(self, *call: Any) -> str:
        return "250 2.0.0 accepted, and thrown away"


@pytest.mark.parametrize(
    ("kind", "fault"), [(DoublingServer, "held more than once: 5"), (LosingServer, "accepted and not held: 5")]
)
def test_the_demo_fails_when_the_server_does_not_hold_each_message_once(
    kind: type[MailServer], fault: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "MailServer", kind)
    folder = Folder((parse("x", b"From: a@x.org\nTo: b@x.org\n\nhi\n"),), ())
    options = argparse.Namespace(dir=None, workers=2, rate=500.0)
    assert demo.run(folder, list(plan(folder.letters, 5)), options) == 1
    out = capsys.readouterr().out
    assert "mailbox check: 5 accepted, 0 held exactly once: FAILED" in out
    assert fault in out


def start(*arguments: str, module: str = "examples.mailroom") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def run(*arguments: str) -> tuple[int, str, str]:
    with start(*arguments) as process:
        out, err = process.communicate(timeout=100)
    return process.returncode, out, err


def number(out: str, row: str) -> int:
    match = re.search(rf"^{row} +(\d+)", out, re.MULTILINE)
    assert match, f"no row {row!r} in:\n{out}"
    return int(match[1])


class TestDemo:
    def test_delivers_the_shipped_folder(self) -> None:
        code, out, err = run("--copies", "1", "--rate", "200")
        assert (code, err) == (0, ""), out + err
        planned, delivered, dead = (number(out, row) for row in ("deliveries planned", "delivered", "dead-lettered"))
        assert planned == sum(len(letter.recipients) for letter in read_folder(SHIPPED).letters)
        assert (delivered, dead) == (planned - 6, 6)
        assert f"mailbox check: {delivered} accepted, {delivered} held exactly once: OK" in out
        assert re.search(r"^ +3   550 5\.1\.1 no such mailbox$", out, re.MULTILINE)
        assert re.search(r"^ +1   552 5\.2\.2 the mailbox is full$", out, re.MULTILINE)
        assert re.search(r"^ +1   500 Line too long", out, re.MULTILINE)
        assert re.search(r"^ +1   451 4\.3\.2 the mailbox is busy \(max_attempts=6 reached\)$", out, re.MULTILINE)
        assert number(out, "retries") >= 11 + 4 + 1 + 5, "greylisted, hung up, not answered, busy"
        assert re.search(r"p50 \d+\.\d+ s   p99 \d+\.\d+ s", out)
        assert re.search(r"^ +\d+\.\d s   delivered", out, re.MULTILINE), "the periodic progress line"
        assert "skipped 44-not-a-message.eml: not a mail message: line 1 is not a header field" in out
        assert str(ROOT) not in out

    def test_delivers_a_folder_of_ones_own(self, tmp_path: Path) -> None:
        for n in range(30):
            (tmp_path / f"{n}.EML").write_text(f"From: me@example.org\nTo: person{n}@example.com\n\nHello {n}\n")
        (tmp_path / "broken.eml").write_bytes(bytes(range(256)))
        (tmp_path / "dangling.eml").symlink_to(tmp_path / "nowhere")
        (tmp_path / "folder.eml").mkdir()
        code, out, err = run("--dir", str(tmp_path), "--rate", "200", "--workers", "3")
        assert (code, err) == (0, ""), out
        assert number(out, "delivered") + number(out, "dead-lettered") == number(out, "deliveries planned") == 30
        assert number(out, "  skipped, or in part") == 3
        assert "skipped dangling.eml: cannot be read: No such file or directory" in out
        assert "held exactly once: OK" in out
        assert "550 5.1.1 no such mailbox" in out

    def test_a_folder_that_cannot_be_used_is_one_line(self, tmp_path: Path) -> None:
        code, out, err = run("--dir", str(tmp_path / "none"))
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert err.startswith("mailroom: there is no folder ")
        code, out, err = run("--dir", str(tmp_path))
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert err.startswith("mailroom: there is no .eml file in ")
        (tmp_path / "broken.eml").write_text("broken")
        code, out, err = run("--dir", str(tmp_path))
        assert (code, err) == (2, "mailroom: no file in the folder can be delivered\n")
        assert "skipped broken.eml" in out

    @pytest.mark.parametrize("wrong", [("--workers", "0"), ("--copies", "-1"), ("--rate", "nan"), ("--rate", "x")])
    def test_wrong_options(self, wrong: tuple[str, str]) -> None:
        code, out, err = run(*wrong)
        assert (code, out) == (2, "")
        assert wrong[0] in err.splitlines()[-1]

    def test_without_end_and_with_a_page(self) -> None:
        """`make dashboard`: the page that it names shows mail being delivered, until Ctrl-C."""
        with start(module="examples.mailroom.steady") as process:
            try:
                assert process.stdout is not None
                url = process.stdout.readline().removeprefix("open ").strip()
                assert process.stdout.readline() == "Ctrl-C ends it\n"
                address, _, token = url.partition("/#token=")
                state = {"stats": {"succeeded": 0}}
                while state["stats"]["succeeded"] < 20:
                    headers = {"Authorization": f"Bearer {token}"}
                    (state,) = httpx.get(f"{address}/api/state", headers=headers, timeout=20).json()["queues"]
                    time.sleep(0.1)
                process.send_signal(signal.SIGINT)
                out, err = process.communicate(timeout=60)
            finally:
                process.kill()
        assert (state["name"], state["state"], state["rates"]["started"] > 0) == ("mailroom", "running", True)
        assert (process.returncode, out, err) == (0, "\nstopping\n", "")

    @pytest.mark.parametrize("signals", [1, 2])
    @pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_drains_and_a_second_cancels(self, kind: signal.Signals, signals: int) -> None:
        with start("--copies", "20", "--rate", "60") as process:
            assert process.stdout is not None
            assert process.stderr is not None
            before = ""
            while not re.search(r"delivered +[1-9]", before):
                line = process.stdout.readline()
                assert line, f"ended before it delivered anything:\n{before}{process.stderr.read()}"
                before += line
            for _ in range(signals):
                process.send_signal(kind)
                time.sleep(0.3)
            out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (130, ""), out
        assert "\ninterrupted: " in out
        assert ("\ncancelled\n" in out) == (signals == 2)
        assert "held exactly once: OK" in out
        assert "NOT ACCOUNTED" not in out
        assert number(out, "not sent any more") > 0
        assert number(out, "delivered") + number(out, "dead-lettered") + number(out, "left in the queue") + number(
            out, "not sent any more"
        ) == number(out, "deliveries planned")
