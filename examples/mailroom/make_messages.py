# ruff: noqa: RUF001  letters of other scripts, and a dash in a subject, are meant
"""Writes the folder `messages/`. It was run once and its output is kept; run it again only to change the messages.

    python -m examples.mailroom.make_messages

Same output every time: dates, boundaries and ids are fixed.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from email.message import EmailMessage
from email.policy import SMTP, EmailPolicy
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent / "messages"
UTF8 = SMTP.clone(utf8=True)
EIGHT_BIT = SMTP.clone(cte_type="8bit")

Edit = Callable[[EmailMessage], None]


def png(width: int = 48, height: int = 48) -> bytes:
    """A small colour gradient."""
    rows = b"".join(b"\0" + b"".join(bytes((x * 5, y * 5, 160)) for x in range(width)) for y in range(height))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def pdf(text: str) -> bytes:
    """One page with one line."""
    stream = f"BT /F1 24 Tf 72 720 Td ({text}) Tj ET".encode()
    objects = (
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R "
        b"/Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    )
    out, offsets = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    count = len(objects) + 1
    return out + b"xref\n0 %d\n0000000000 65535 f \n%strailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (
        count,
        table,
        count,
        len(out),
    )


def csv(rows: int) -> str:
    """A table of figures."""
    lines = (f"2026-03-{1 + day % 28:02},{day * 37 % 101},{day * 53 % 997 / 10:.1f}" for day in range(rows))
    return "date,orders,revenue\r\n" + "\r\n".join(lines) + "\r\n"


def three_files(message: EmailMessage) -> None:
    """Names with umlauts, in Japanese, and with a space."""
    attach(csv(5).encode(), "text/csv", "Übersicht März.csv")(message)
    attach(png(16, 16), "image/png", "図面.png")(message)
    attach(bytes(range(256)) * 8, "application/octet-stream", "all bytes.bin")(message)


class Writer:
    """Numbers the messages and writes them."""

    def __init__(self) -> None:
        self.number = 0

    def raw(self, name: str, content: bytes) -> None:
        """Write *content* as it is."""
        self.number += 1
        (HERE / f"{self.number:02}-{name}.eml").write_bytes(content)

    def mail(
        self,
        name: str,
        subject: str,
        to: str,
        text: str = "",
        *,
        sender: str = "Anna Novak <anna@example.org>",
        cc: str = "",
        bcc: str = "",
        html: str = "",
        policy: EmailPolicy[Any] = SMTP,
        cte: str | None = None,
        edit: Edit | None = None,
        line_end: bytes = b"\r\n",
        charset: str = "utf-8",
    ) -> EmailMessage:
        """Build a message and write it."""
        message = EmailMessage(policy=policy)
        written = datetime(2026, 9, 1 + self.number % 28, 8 + self.number % 12, 14, tzinfo=timezone(timedelta(hours=2)))
        message["Date"] = written
        message["From"], message["To"], message["Subject"] = sender, to, subject
        if cc:
            message["Cc"] = cc
        if bcc:
            message["Bcc"] = bcc
        message["Message-ID"] = f"<{name}.{self.number + 1}@mail.example.org>"
        message.set_content(text, cte=cte, charset=charset)
        if html:
            message.add_alternative(html, subtype="html", cte=cte)
        if edit is not None:
            edit(message)
        for depth, part in enumerate(message.walk()):
            if part.is_multipart() and part.get_content_type() != "message/rfc822":
                part.set_boundary(f"=_{name}_{depth}_=")
        self.raw(name, bytes(message).replace(b"\r\n", line_end))
        return message


def attach(data: bytes, kind: str, filename: str) -> Edit:
    """Add *data* as a file."""
    main, _, sub = kind.partition("/")
    return lambda message: message.add_attachment(data, maintype=main, subtype=sub, filename=filename)


def header(name: str, value: str) -> Edit:
    """Add a header."""
    return lambda message: message.add_header(name, value)


# fmt: off
def plain_mail(writer: Writer) -> None:
    """Everyday text, HTML and recipients."""
    mail = writer.mail
    mail("hello", "Lunch on Friday?", "Ben <ben@example.com>", "Hi Ben,\n\nFriday at noon, the usual place?\n\nAnna\n")
    mail("two-recipients", "Minutes of Monday", "ben@example.com, grey.carla@example.net", "Minutes below.\n" * 12)
    mail("cc-and-bcc", "Offer no. 4471", "grey.sales@example.com", "The offer as discussed.\n",
         cc="ben@example.com, Dora <slow.dora@example.org>", bcc="archive@example.net")
    mail("bcc-only", "Quiet notice", "undisclosed-recipients:;", "For you only.\n",
         bcc="mira@example.net, grey.noor@example.org")
    mail("html", "Your order has shipped", "Otto <otto@example.net>", "Your order has shipped.\n",
         html="<html><body><h1>Shipped</h1><p>Your order <b>1093</b> is on its way.</p></body></html>\n",
         sender="Shop <no-reply@example.com>")
    mail("newsletter", "News of September", "paula@example.org, grey.quentin@example.com, gone.rita@example.net",
         "News.\n" * 200, html="<p>News &amp; more.</p>\n" * 200, sender="News <news@example.com>",
         edit=header("List-Unsubscribe", "<mailto:leave@example.com?subject=leave>"))
    mail("empty-body", "(no text)", "slow.sam@example.com")
    mail("no-subject", "", "tina@example.net", "I forgot the subject.\n")
    mail("password-reset", "Reset your password", "grey.uwe@example.org",
         "https://example.com/reset?token=0123456789abcdef&user=uwe\n", sender="no-reply@example.com")
    mail("left-company", "Welcome aboard", "gone.viktor@example.org", "See you on your first day!\n")
    mail("full-mailbox", "The photos", "full.walter@example.net, wanda@example.net", "One more time.\n")
    mail("busy-mailbox", "Are you there?", "busy.xaver@example.com", "Ping.\n")
    mail("bad-line", "Status of the night run", "flaky.yara@example.com, flaky.zoe@example.org", "All green.\n")
    mail("no-answer", "Reminder", "stuck.abel@example.net", "Just a reminder.\n")
    mail("list", "Planning of Q4", ", ".join(f"member{n}@example.org" for n in range(1, 9)), "Please add your dates.\n",
         cc="slow.chair@example.org, grey.notes@example.com, gone.former@example.org")


def attachments(writer: Writer) -> None:
    """Files of several kinds, and a message within a message."""
    mail = writer.mail
    mail("image", "The new logo", "bert@example.com", "Attached.\n", edit=attach(png(), "image/png", "logo.png"))
    mail("invoice", "Invoice 2026-0917", "grey.accounts@example.com", "Please find the invoice attached.\n",
         edit=attach(pdf("Invoice 2026-0917"), "application/pdf", "invoice-2026-0917.pdf"),
         sender="Billing <billing@example.org>", cc="billing-copies@example.org")
    mail("figures", "Figures of March", "clara@example.net, slow.dirk@example.com", "The table is attached.\n",
         edit=attach(csv(400).encode(), "text/csv", "march.csv"))
    mail("file-names", "Files with names", "emil@example.org", "Three files.\n", edit=three_files)
    mail("html-with-image", "Map of the venue", "flaky.fred@example.net", "The map is in the HTML part.\n",
         html='<p>Here: <img src="cid:map@example.org"></p>\n',
         edit=lambda message: message.get_payload()[1].add_related(  # type: ignore[union-attr,index]
             png(32, 32), "image", "png", cid="<map@example.org>"))
    inner = mail("original", "Question about the contract", "greta@example.com", "Is clause 4 still valid?\n",
                 sender="Hugo <hugo@example.net>")
    mail("forwarded", "Fwd: Question about the contract", "legal@example.org, grey.ines@example.net",
         "See below.\n", edit=lambda message: message.add_attachment(inner))
    mail("large", "The full log", "slow.jon@example.org", "Attached.\n",
         edit=attach(zlib.compress(csv(40000).encode())[:90000], "application/gzip", "log.csv.gz"))


def languages(writer: Writer) -> None:
    """Names and texts that are not ASCII, in each encoding that mail has."""
    mail = writer.mail
    mail("german", "Grüße aus Köln – Maße & Größen", "Jürgen Groß <juergen@example.org>",
         "Schöne Grüße,\nKäthe\n", sender="Käthe Müßig <kaethe@example.org>", cte="quoted-printable")
    mail("japanese", "四半期報告書の送付について", "田中 太郎 <slow.tanaka@example.com>",
         "田中様\n\n四半期報告書をお送りします。\n", sender="佐藤 花子 <sato@example.com>", cte="base64")
    mail("arabic", "دعوة إلى الاجتماع", "ليلى <grey.layla@example.net>", "السلام عليكم\n\nموعدنا غدًا صباحًا.\n",
         sender="كريم <karim@example.net>", cte="base64")
    mail("french-8bit", "Déjà vu à l'été", "Zoé <zoe@example.net>", "Être ou ne pas être.\n" * 4,
         policy=EIGHT_BIT, cte="8bit")
    mail("latin1", "Smörgåsbord", "Åsa <asa@example.org>", "Räksmörgås på fredag.\n", charset="iso-8859-1",
         cte="quoted-printable")
    mail("utf8-headers", "Привет из Софии", "Борис <boris@example.org>, flaky.ivo@example.com", "Как дела?\n",
         sender="Елена <elena@example.org>", policy=UTF8, cte="8bit")
    mail("utf8-address", "地址测试", "用户 <用户@example.com>", "邮箱地址不是 ASCII。\n", policy=UTF8, cte="8bit")
    mail("emoji", "🎉 Release day 🎉", "team@example.com", "We did it! 🚀\n", html="<p>We did it! 🚀</p>\n")
    mail("greek-and-hebrew", "Ελληνικά / עברית", "νίκος <nikos@example.com>, דנה <grey.dana@example.org>",
         "Καλημέρα / בוקר טוב\n")


def unusual(writer: Writer) -> None:
    """What mail systems trip over: dots, line ends, long headers, quoted names, and files that are no mail."""
    mail, raw = writer.mail, writer.raw
    mail("dots", "Lines that begin with dots", "karl@example.org",
         ".\n..\n...three\n.hidden file\n\n.\nafter the single dot\n")
    mail("long-headers", "A subject that goes on and on " * 12, ", ".join(
        f'"Department of Very Long Names, Section {n}" <section{n}@example.net>' for n in range(1, 6)),
        "Folded.\n", edit=header("References", " ".join(f"<thread.{n}@mail.example.org>" for n in range(40))))
    mail("unix-line-ends", "LF only", "lena@example.com", "Line one\nLine two\n", line_end=b"\n")
    mail("quoted-name", "Quoted", '"pat o\'neill"@example.com, "Moe, Jr." <slow.moe@example.net>', "Quotes in To.\n")
    raw("mixed-line-ends",
        b"From: nils@example.org\r\nTo: olga@example.com\nSubject: CRLF and LF\r\n\nOne\r\nTwo\nThree")
    raw("same-person-twice", b"From: petra@example.org\nTo: RALF@example.org, ralf@example.org\nCc: ralf@Example.ORG\n"
        b"Subject: One delivery only\n\nYou are named three times.\n")
    raw("no-sender", b"To: steffi@example.net\nSubject: No From\n\nWho sent this?\n")
    raw("no-recipient", b"From: till@example.org\nSubject: To nobody\n\nThis one can go nowhere.\n")
    raw("one-bad-recipient", b"From: ute@example.org\nTo: vera at example.com, grey.willi@example.com\n"
        b"Subject: Half an address\n\nOne of the two is no address.\n")
    raw("overlong-line", b"From: yves@example.org\nTo: zack@example.net\nSubject: A line of 4000 bytes\n\n"
        + b"x" * 4000 + b"\n")
    raw("missing-boundary", b"From: alma@example.org\nTo: bodo@example.com\nSubject: Cut off\nMIME-Version: 1.0\n"
        b'Content-Type: multipart/mixed; boundary="never-closed"\n\n--never-closed\nContent-Type: text/plain\n\n'
        b"The rest i")
    raw("not-a-message", base64.b64decode("UEsDBBQAAAAIAA==") + bytes(range(200, 256)) * 3)


# fmt: on
def main() -> None:
    """Write all of them."""
    HERE.mkdir(exist_ok=True)
    for old in HERE.glob("*.eml"):
        old.unlink()
    (HERE / ".gitattributes").write_text("# line ends are part of what these files test\n*.eml -text\n")
    writer = Writer()
    for part in (plain_mail, attachments, languages, unusual):
        part(writer)


if __name__ == "__main__":
    main()
